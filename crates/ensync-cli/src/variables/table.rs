//! Who may name what. Keys belong to an engine, and whoever can write where one happens to be can write the file `.env` there: that
//! file may name an engine, and may not choose which keys of others, or which of their files, go to it, nor who is taken for an engine
//! that others name.

/// What a variable is to an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Where it is.
    Url,
    /// A secret that is for it.
    Key,
    /// A file with such a secret.
    KeyFile,
    /// The files of the certificate that is shown to it.
    Identity,
    /// The file that says who is taken for it.
    Trust,
}

/// What belongs to one engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    /// The engine, and who one is there.
    Client,
    /// Its admin API, and the token for it.
    Admin,
}

impl Group {
    pub(super) const ALL: [Self; 2] = [Self::Client, Self::Admin];

    /// The variable and the flag that say where it is.
    pub(super) fn url(self) -> (&'static str, &'static str) {
        match self {
            Self::Client => ("ENSYNC_URL", "--url"),
            Self::Admin => ("ENSYNC_ADMIN_URL", "--admin-url"),
        }
    }

    pub(super) fn of(name: &str) -> Self {
        if name.starts_with("ENSYNC_ADMIN_") { Self::Admin } else { Self::Client }
    }
}

/// Every variable that says how an engine is reached or who one is there: what it is, and the flag that it stands for.
pub(super) const KNOWN: [(&str, What, &str); 11] = [
    ("ENSYNC_URL", What::Url, "--url"),
    ("ENSYNC_CA_FILE", What::Trust, "--ca"),
    ("ENSYNC_CLIENT_CERT", What::Identity, "--client-cert"),
    ("ENSYNC_CLIENT_KEY", What::Identity, "--client-key"),
    ("ENSYNC_APP_KEY", What::Key, "--app-key"),
    ("ENSYNC_ACCESS_KEY", What::Key, "--app-key"),
    ("ENSYNC_SECRET_KEY", What::Key, "--secret-key"),
    ("ENSYNC_ADMIN_URL", What::Url, "--admin-url"),
    ("ENSYNC_ADMIN_CA_FILE", What::Trust, "--admin-ca"),
    ("ENSYNC_ADMIN_TOKEN", What::Key, "--token-file"),
    ("ENSYNC_ADMIN_TOKEN_FILE", What::KeyFile, "--token-file"),
];

/// A variable of the table.
pub(super) fn find(name: &str) -> Option<(&'static str, What, &'static str)> {
    KNOWN.into_iter().find(|(known, ..)| *known == name)
}

/// Whether a flag has a variable's value as its default. What is a secret, or says where one is, is looked for when it is needed.
pub(super) fn is_default(what: What) -> bool {
    matches!(what, What::Url | What::Identity | What::Trust)
}

/// Where values come from, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Flag,
    /// The context that a flag names.
    Named,
    Environment,
    File,
    /// The context that is used if no flag names one.
    Current,
    Default,
}

impl Source {
    /// Those that give more than one value.
    pub(super) const MANY: [Self; 4] = [Self::Named, Self::Environment, Self::File, Self::Current];
}

/// Which engine the source of a value names itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Own {
    Nowhere,
    Here,
    Elsewhere,
}

/// Whether a file may say something at all: not where a file with a secret is, for that would go wherever the file says.
pub(super) fn is_of_file(what: What) -> bool {
    what != What::KeyFile
}

/// Whether what `of` says may be used with the engine that `engine` names.
pub(super) fn may(what: What, of: Source, engine: Source, own: Own) -> bool {
    use Source::{Default, Environment, File, Flag, Named};
    match (what, engine, of) {
        (What::Url, ..) => true,
        (What::KeyFile, _, File) => false,
        // Keys of another place would be read on their way, by whoever the file takes for the engine.
        (What::Trust, engine, File) => engine == File,
        // One's own choice of whom to trust, which gives nothing away.
        (What::Trust, _, Environment) => true,
        // Nothing goes to an engine that the file names but what is in the file.
        (_, File, of) => of == File,
        (What::Identity, _, Environment) => true,
        (_, engine, of) if engine == of => true,
        // Nobody says where the engine is, so it is on this machine.
        (_, Default, _) => true,
        // A flag is typed by whoever has the keys. A context's are for its engine, unless a flag names the context too.
        (_, Flag, Named | Environment | File) => true,
        (_, Environment, File) => own != Own::Elsewhere,
        _ => own == Own::Here,
    }
}
