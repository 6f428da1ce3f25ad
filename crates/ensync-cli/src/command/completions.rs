use clap::Args;
use clap_complete::Shell;
use serde_json::json;

use super::Outcome;
use crate::arguments;
use crate::output::Output;

/// Print what a shell needs to complete commands and flags.
#[derive(Args)]
#[command(after_help = "Examples:\n  ensync completions bash > ~/.local/share/bash-completion/completions/ensync\n  \
                  ensync completions zsh > \"${fpath[1]}/_ensync\"\n  \
                  ensync completions fish > ~/.config/fish/completions/ensync.fish")]
pub(crate) struct Completions {
    /// Which shell.
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self, out: Output) -> Outcome {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut arguments::command(), "ensync", &mut text);
        let text = String::from_utf8(text)?;
        if out.json { out.value(&json!({"shell": self.shell.to_string(), "script": text})) } else { out.raw(text) }
    }
}
