//! The answer to `CONN`: `{clientId=…,clientHash=…,key=value,…}`.

use ensync_core::{AppId, ClientId, Error, ErrorKind, Result, ServerConfig, Welcome};

const CLIENT_ID: &str = "clientId";
const CLIENT_HASH: &str = "clientHash";

/// Reads the text of the `+PASS:` that answers a login.
///
/// Pairs are split at `,` and then at the first `=`, so base64 keeps its own; spaces around keys and values are dropped.
///
/// # Errors
///
/// [`ErrorKind::Protocol`] if there is no usable client id.
pub fn parse_welcome(text: &str) -> Result<Welcome> {
    let wrong = |what: &str| Error::new(ErrorKind::Protocol, format!("the answer to the login {what}"));
    let inner = text.trim();
    let inner = inner.strip_prefix('{').unwrap_or(inner);
    let inner = inner.strip_suffix('}').unwrap_or(inner);
    let (mut client_id, mut app_id, mut config) = (None, None, Vec::new());
    for (key, value) in inner.split(',').filter_map(|pair| pair.split_once('=')) {
        match (key.trim(), value.trim()) {
            (CLIENT_ID, id) => client_id = Some(id),
            (CLIENT_HASH, key) => app_id = AppId::parse(key).ok(),
            (key, value) => config.push((key, value)),
        }
    }
    let client_id = ClientId::parse(client_id.ok_or_else(|| wrong("holds no clientId"))?)
        .map_err(|cause| wrong("holds a clientId that is none").with_source(cause))?;
    Ok(Welcome { client_id, app_id, config: config.into_iter().collect::<ServerConfig>() })
}

/// Writes the answer to a login.
///
/// # Errors
///
/// [`ErrorKind::InvalidInput`] if a key or value of the configuration holds what separates pairs, or space at its ends.
pub fn write_welcome(welcome: &Welcome) -> Result<String> {
    let mut text = format!("+PASS:{{{CLIENT_ID}={}", welcome.client_id.expose());
    if let Some(app_id) = welcome.app_id {
        text.push_str(&format!(",{CLIENT_HASH}={app_id}"));
    }
    for (key, value) in welcome.config.iter() {
        let plain = |text: &str| text.trim() == text && !text.contains([',', '{', '}']);
        if key.is_empty()
            || key.contains('=')
            || [CLIENT_ID, CLIENT_HASH].contains(&key)
            || !plain(key)
            || !plain(value)
        {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!(
                    "server configuration {key:?}: key and value cannot hold , {{ }} or space at the ends, nor the key ="
                ),
            ));
        }
        text.push_str(&format!(",{key}={value}"));
    }
    text.push('}');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use ensync_core::Extension;

    use super::*;

    const KEY: &str = "oV/L7EPzFRvzczcM2MIA4AAPw5N54nmkn5VpSnQftN8=";

    #[test]
    fn base64_keeps_its_padding_and_spaces_go() {
        for text in [
            format!("{{clientId=c-1,clientHash={KEY}}}"),
            format!(" {{ clientId = c-1 , clientHash = {KEY} , note = a=b }} "),
        ] {
            let welcome = parse_welcome(&text).unwrap();
            assert_eq!(welcome.client_id.expose(), "c-1");
            assert_eq!(welcome.app_id.unwrap().to_string(), KEY);
        }
        let welcome = parse_welcome("{clientId=c,clientHash=nonsense,note=a=b,flag,=,x=}").unwrap();
        assert_eq!(
            (welcome.app_id, welcome.config.value("note"), welcome.config.value("x")),
            (None, Some("a=b"), Some(""))
        );
    }

    #[test]
    fn what_is_written_is_read() {
        let config: ServerConfig =
            [(ServerConfig::EXTENSIONS, Extension::announcement()), ("engine", "ensync-engine/0.1.0".into())]
                .into_iter()
                .collect();
        let welcome =
            Welcome { client_id: ClientId::parse("c=1").unwrap(), app_id: Some(AppId::parse(KEY).unwrap()), config };
        let frame = write_welcome(&welcome).unwrap();
        assert_eq!(parse_welcome(frame.strip_prefix("+PASS:").unwrap()).unwrap(), welcome);
    }

    #[test]
    fn without_a_client_id_it_is_no_login() {
        for (text, part) in [
            ("", "holds no clientId"),
            ("{}", "holds no clientId"),
            ("ok", "holds no clientId"),
            ("{clientId=}", "that is none"),
            ("{clientId=a;b}", "that is none"),
        ] {
            let error = parse_welcome(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Protocol);
            assert!(error.to_string().contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn what_would_break_the_answer_is_not_written() {
        for (key, value) in [("a", "1,2"), ("a", "{"), ("a=b", "1"), ("a", " 1"), ("clientId", "x"), ("", "x")] {
            let config = [(key, value)].into_iter().collect();
            let welcome = Welcome { client_id: ClientId::parse("c").unwrap(), app_id: None, config };
            assert_eq!(write_welcome(&welcome).unwrap_err().kind(), ErrorKind::InvalidInput, "{key}={value}");
        }
    }
}
