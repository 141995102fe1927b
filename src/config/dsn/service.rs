//! `pg_service.conf`: named groups of connection settings.
//!
//! Facts: <https://www.postgresql.org/docs/current/libpq-pgservice.html>. How a line is cut is not said there,
//! and is compared with libpq itself (`tests/main/libpq.rs`).

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::grammar::is_space;
use super::invalid::{InvalidDsn, Wrong};
use super::keyword::known;
use super::place::Place;
use super::settings::Values;
use super::surroundings::Surroundings;

const NAME: &str = "pg_service.conf";

/// A service file that may be looked at.
struct ServiceFile {
    path: PathBuf,
    /// How messages name it.
    shown: String,
    /// Whether somebody named it, so that it must be there.
    named: bool,
}

/// Adds the settings of the service that the connection string or `PGSERVICE` names, where there are none yet.
pub(super) fn fill(values: &mut Values, around: &Surroundings) -> Result<(), InvalidDsn> {
    if let Some(service) = around.variable("PGSERVICE") {
        values.fill("service", service.to_vec(), Place::Variable("PGSERVICE"));
    }
    let Some(service) = values.get("service").map(<[u8]>::to_vec) else { return Ok(()) };
    let files = files(values, around)?;
    for file in &files {
        let text = match std::fs::read(&file.path) {
            Ok(text) => text,
            // libpq passes over such a file as well, whatever the reason.
            Err(_) if !file.named => continue,
            Err(e) => return Err(InvalidDsn::ServiceFile(file.shown.clone(), e.kind().to_string())),
        };
        if section(&text, &service, file, values)? {
            return Ok(());
        }
    }
    let shown: Vec<String> = files.into_iter().map(|file| file.shown).collect();
    Err(InvalidDsn::NoService(shown.join(" and ")))
}

/// The files to look at: the one that is named, or else that of the user; then that of the host.
fn files(values: &Values, around: &Surroundings) -> Result<Vec<ServiceFile>, InvalidDsn> {
    let file = |path: PathBuf, named| ServiceFile { shown: path.display().to_string(), path, named };
    let variable = |name| around.variable(name).map(|path| PathBuf::from(std::ffi::OsStr::from_bytes(path)));
    let of_user = match (values.text("servicefile")?, variable("PGSERVICEFILE")) {
        // No message shows text of the connection string.
        (Some(path), _) => {
            Some(ServiceFile { path: path.into(), shown: "the file of `servicefile`".into(), named: true })
        }
        (None, Some(path)) => Some(file(path, true)),
        (None, None) => around.home.as_ref().map(|home| file(home.join(format!(".{NAME}")), false)),
    };
    let of_host = match variable("PGSYSCONFDIR") {
        Some(directory) => vec![directory],
        None => around.system.clone(),
    };
    let of_host = of_host.into_iter().map(|directory| file(directory.join(NAME), false));
    Ok(of_user.into_iter().chain(of_host).collect())
}

/// Reads the first section with this name. Returns whether there is one.
fn section(text: &[u8], service: &[u8], file: &ServiceFile, values: &mut Values) -> Result<bool, InvalidDsn> {
    let mut found = false;
    for (number, line) in text.split(|b| *b == b'\n').enumerate() {
        let line = trimmed(line);
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        if let Some(head) = line.strip_prefix(b"[") {
            if found {
                return Ok(true);
            }
            found = head.strip_prefix(service).is_some_and(|rest| rest.starts_with(b"]"));
            continue;
        }
        if !found {
            continue;
        }
        let place = format!("{} line {}", file.shown, number + 1);
        let wrong = |why| InvalidDsn::ServiceLine(place.clone(), why);
        if line.starts_with(b"ldap") {
            return Err(wrong(Wrong::Ldap));
        }
        let equals = line.iter().position(|b| *b == b'=').ok_or_else(|| wrong(Wrong::NoSetting))?;
        let (name, value) = (&line[..equals], &line[equals + 1..]);
        let name = std::str::from_utf8(name).ok().and_then(known).ok_or_else(|| wrong(Wrong::Unknown))?;
        if name.starts_with("service") {
            return Err(wrong(Wrong::Nested));
        }
        if value.contains(&0) {
            return Err(wrong(Wrong::Zero));
        }
        values.fill(name, value.to_vec(), Place::Service(place));
    }
    Ok(found)
}

fn trimmed(mut line: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = line
        && is_space(*first)
    {
        line = rest;
    }
    while let [rest @ .., last] = line
        && is_space(*last)
    {
        line = rest;
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, service: &str) -> Result<Option<Values>, InvalidDsn> {
        let file = ServiceFile { path: "/f".into(), shown: "/f".into(), named: true };
        let mut values = Values::default();
        let found = section(text.as_bytes(), service.as_bytes(), &file, &mut values)?;
        Ok(found.then_some(values))
    }

    #[test]
    fn only_the_first_section_of_a_name_counts() {
        let text = "port=1\n# x\n[a]\nhost=h\r\n  user=u \nhost=later\n[b]\nnonsense\n[a]\nport=2";
        let values = read(text, "a").expect("valid").expect("found");
        let got = ["host", "user", "port"].map(|keyword| values.get(keyword));
        assert_eq!(got, [Some(b"h".as_slice()), Some(b"u".as_slice()), None]);
        assert_eq!(values.place("user").map(ToString::to_string).as_deref(), Some("/f line 5"));
        assert!(read(text, "c").expect("valid").is_none());
    }

    #[test]
    fn a_wrong_line_is_named_by_its_number_and_never_shown() {
        for (line, says) in [
            ("geheim", "keyword=value"),
            ("port = 5", "without a space"),
            ("geheim=5", "without a space"),
            ("service=b", "cannot name another"),
            ("servicefile=b", "cannot name another"),
            ("ldap://geheim/x", "LDAP"),
            ("user=\0", "zero"),
        ] {
            let Err(error) = read(&format!("[a]\n{line}"), "a") else { panic!("{line} is taken") };
            let told = error.to_string();
            assert!(told.contains("/f line 2") && told.contains(says), "{line}: {told}");
            assert!(!told.contains("geheim"), "{told}");
        }
    }
}
