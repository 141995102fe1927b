//! Secrets that systemd passes to a unit: a path that begins with `$CREDENTIALS_DIRECTORY` names a file with
//! the secret.

use std::path::Path;

use super::Config;

/// systemd sets this variable for units with `LoadCredential=`, systemd.exec(5). Each unit has a directory of
/// its own.
pub(super) const VARIABLE: &str = "CREDENTIALS_DIRECTORY";
const PREFIX: &str = "$CREDENTIALS_DIRECTORY";

impl Config {
    /// Replaces the variable by the directory. Without a directory the paths stay unchanged, and the code
    /// that reads the file reports the error.
    pub(super) fn find_credentials(&mut self, directory: &Path) {
        let broker = &mut self.broker;
        let files = [&mut broker.url_file, &mut broker.ca_file, &mut broker.cert_file, &mut broker.key_file];
        let sources = self.sources.values_mut().flat_map(|s| s.kind.files_mut());
        for file in files.into_iter().chain(sources).flatten() {
            if let Ok(name) = file.strip_prefix(PREFIX) {
                *file = directory.join(name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_found_where_the_unit_has_them() {
        let text = r#"
            [broker]
            url_file = "$CREDENTIALS_DIRECTORY/broker"
            ca_file = "/etc/ca.pem"
            [export]
            root = "/data"
            [sources.w]
            kind = "postgres"
            dsn = "postgres://u@h/d"
            password_file = "$CREDENTIALS_DIRECTORY/w"
        "#;
        let found = |env: Vec<(String, String)>| {
            let config = Config::parse(text, env).expect("valid");
            let (_, source) = config.sources.values().next().expect("one").kind.files()[0];
            let source = source.clone();
            [config.broker.url_file, config.broker.ca_file, source]
                .map(|f| f.expect("set").display().to_string())
        };
        let unit = vec![(VARIABLE.to_owned(), "/run/credentials/x.service".to_owned())];
        assert_eq!(
            found(unit),
            ["/run/credentials/x.service/broker", "/etc/ca.pem", "/run/credentials/x.service/w"]
        );
        assert_eq!(found(vec![])[0], "$CREDENTIALS_DIRECTORY/broker");
    }
}
