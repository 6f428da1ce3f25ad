//! The operator's guide.
//!
//! | chapter | for |
//! |---|---|
//! | [`install`] | from nothing to a running engine, under systemd or in a container; starting and stopping |
//! | [`configuration`] | every setting |
//! | [`tls`] | certificates, and new ones without a restart |
//! | [`provisioning`] | apps, event names, rights |
//! | [`shell`] | the command for developers and operators: contexts, JSON, exit codes, many events at once |
//! | [`moving_in`] | from the makers' containers to this engine, and back |
//! | [`console`] | the web page: who gets in, where it is served |
//! | [`limits`] | what clients may use up, and what they see at each limit |
//! | [`metrics`] | what each metric means, and what to alert on |
//! | [`logs`] | what is logged, and how |
//! | [`backup`] | copies, and damaged directories |
//! | [`upgrade`] | from one version to the next |
//! | [`sizing`] | memory, disk, files |
//! | [`troubleshooting`] | each refusal, and what to do |
//! | [`cluster`] | what is not there yet |

#[doc = include_str!("backup.md")]
pub mod backup {}
#[doc = include_str!("cluster.md")]
pub mod cluster {}
#[doc = include_str!("configuration.md")]
pub mod configuration {}
#[doc = include_str!("console.md")]
pub mod console {}
#[doc = include_str!("install.md")]
pub mod install {}
#[doc = include_str!("limits.md")]
pub mod limits {}
#[doc = include_str!("logs.md")]
pub mod logs {}
#[doc = include_str!("metrics.md")]
pub mod metrics {}
#[doc = include_str!("moving_in.md")]
pub mod moving_in {}
#[doc = include_str!("provisioning.md")]
pub mod provisioning {}
#[doc = include_str!("shell.md")]
pub mod shell {}
#[doc = include_str!("sizing.md")]
pub mod sizing {}
#[doc = include_str!("tls.md")]
pub mod tls {}
#[doc = include_str!("troubleshooting.md")]
pub mod troubleshooting {}
#[doc = include_str!("upgrade.md")]
pub mod upgrade {}
