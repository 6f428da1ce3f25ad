//! The file `.env`.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use zeroize::Zeroizing;

use super::table::{find, is_of_file};

/// The largest such file that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Variables by their names. Secrets are among them.
pub(crate) type Values = HashMap<String, Zeroizing<String>>;

/// The variables of a file that are ours, and what is to be said of the file.
pub(super) fn read(path: &Path) -> (Values, Option<String>) {
    let nothing = HashMap::new();
    let shown = path.display();
    let mut options = std::fs::OpenOptions::new();
    options.read(true);
    // One who can write here could put a pipe there, which nobody else opens.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
    let file = match options.open(path) {
        Ok(file) => file,
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return (nothing, None),
        Err(cause) => return (nothing, Some(format!("the file {shown} cannot be read: {cause}"))),
    };
    // Of the file that was opened: by its name it could be another one by now.
    let about = match file.metadata() {
        Ok(about) if about.is_file() => about,
        Ok(_) => return (nothing, None),
        Err(cause) => return (nothing, Some(format!("the file {shown} cannot be read: {cause}"))),
    };
    // Whoever can write where one happens to be would choose the engine that keys are sent to.
    if let Some(why) = not_mine(&about) {
        return (nothing, Some(format!("the file {shown} {why}, and is not read")));
    }
    // With room for all of it: a text that grows leaves copies of itself behind.
    let length = usize::try_from(about.len().min(MAX_FILE)).unwrap_or_default();
    let mut text = Zeroizing::new(String::with_capacity(length + 64));
    match file.take(MAX_FILE + 1).read_to_string(&mut text) {
        Ok(length) if length as u64 > MAX_FILE => {
            (nothing, Some(format!("the file {shown} is larger than {MAX_FILE} bytes, and is not read")))
        }
        Ok(_) => {
            let (found, wrong) = parse(&text);
            (found, wrong.map(|wrong| format!("the file {shown}: {wrong}; that is not read")))
        }
        Err(cause) => (nothing, Some(format!("the file {shown} cannot be read: {cause}"))),
    }
}

/// Why a file is not one's own.
#[cfg(unix)]
fn not_mine(about: &std::fs::Metadata) -> Option<&'static str> {
    use std::os::unix::fs::MetadataExt;
    let (owner, mode) = (about.uid(), about.mode());
    if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        return Some("belongs to another user");
    }
    (mode & 0o002 != 0).then_some("may be written by every user")
}

#[cfg(not(unix))]
fn not_mine(_: &std::fs::Metadata) -> Option<&'static str> {
    None
}

/// Lines `NAME=value`, of which `export` may come before and quotes around the value, and what is wrong with those that are ours.
/// Others are not looked at.
fn parse(text: &str) -> (Values, Option<String>) {
    let (mut found, mut wrong) = (HashMap::new(), Vec::new());
    for (at, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.trim();
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (name, value) =
            line.split_once('=').map_or((line, None), |(name, value)| (name.trim(), Some(value.trim())));
        let Some((name, what, _)) = find(name) else { continue };
        if !is_of_file(what) {
            if value.map(unquoted) != Some(Some("")) {
                let why = "a file with a secret is named by a flag, the environment or a context";
                wrong.push(format!("line {}: {name} has no say there: {why}", at + 1));
            }
            continue;
        }
        match value.map(unquoted) {
            Some(Some("")) => {}
            Some(Some(value)) => _ = found.insert(name.to_owned(), Zeroizing::new(value.to_owned())),
            Some(None) => wrong.push(format!("line {}: the quotation mark of {name} is not closed", at + 1)),
            None => wrong.push(format!("line {}: {name} has no value: write {name}=VALUE", at + 1)),
        }
    }
    (found, (!wrong.is_empty()).then(|| wrong.join("; ")))
}

/// A value without the quotation marks around it; `None` if one is open.
fn unquoted(value: &str) -> Option<&str> {
    match value.chars().next() {
        Some(quote @ ('"' | '\'')) => value.strip_prefix(quote)?.split_once(quote).map(|(inner, _)| inner),
        _ => Some(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_gives_what_is_ours_and_not_empty() {
        let text = "\u{feff}# keys\nENSYNC_URL = grpc://h:1 \nexport ENSYNC_APP_KEY=\"k=1\" # mine\nENSYNC_SECRET_KEY='s'\nENSYNC_CA_FILE=\nPATH=/evil\nENSYNC_DATA=d\nrubbish\n";
        let (found, wrong) = parse(text);
        let mut found: Vec<_> = found.into_iter().map(|(name, value)| (name, value.to_string())).collect();
        found.sort();
        assert_eq!(wrong, None);
        let expected = [("ENSYNC_APP_KEY", "k=1"), ("ENSYNC_SECRET_KEY", "s"), ("ENSYNC_URL", "grpc://h:1")];
        assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn a_line_of_ours_that_says_nothing_is_told_of() {
        let text =
            "A='open\nENSYNC_URL\nENSYNC_APP_KEY=\"hush\nexport ENSYNC_ADMIN_URL='h'\nENSYNC_ADMIN_TOKEN_FILE=/hush\n";
        let (found, wrong) = parse(text);
        assert_eq!((found.len(), found.contains_key("ENSYNC_ADMIN_URL")), (1, true));
        let wrong = wrong.unwrap();
        assert!(
            wrong.contains("line 2: ENSYNC_URL has no value") && wrong.contains("line 3: the quotation mark"),
            "{wrong}"
        );
        assert!(wrong.contains("line 5: ENSYNC_ADMIN_TOKEN_FILE has no say there"), "{wrong}");
        assert!(!wrong.contains("hush"));
    }

    #[cfg(unix)]
    #[test]
    fn a_file_is_ones_own_or_not_read() {
        use std::os::unix::fs::PermissionsExt;
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join(".env");
        std::fs::write(&path, "ENSYNC_URL=h\n").unwrap();
        assert_eq!(read(&path).0.len(), 1);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        let (found, remark) = read(&path);
        assert!(found.is_empty() && remark.unwrap().contains("every user"));
        std::fs::remove_file(&path).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        assert_eq!(read(&path), (HashMap::new(), None), "nobody writes into it, and nobody waits for that");
    }
}
