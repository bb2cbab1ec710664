use serde_json::{Value, json};

use super::*;

fn config(change: impl FnOnce(&mut Value)) -> Result<ElasticsearchConfig, serde_json::Error> {
    let mut value = json!({ "urls": ["http://localhost:9200"], "index": "visits" });
    change(&mut value);
    serde_json::from_value(value)
}

fn errors_of(change: impl FnOnce(&mut Value)) -> Vec<(String, String)> {
    let mut errors = Errors::default();
    config(change).expect("readable").check(&mut errors);
    errors
        .iter()
        .map(|(path, message)| (path.to_owned(), message.to_owned()))
        .collect()
}

#[test]
fn the_defaults_are_sound() {
    assert!(errors_of(|_| {}).is_empty());
    let config = config(|_| {}).expect("readable");
    assert_eq!(config.id, IdSource::Key);
    assert_eq!(config.version, VersionSource::Auto);
}

#[test]
fn unknown_settings_are_errors() {
    assert!(config(|value| value["indx"] = json!("x")).is_err());
    assert!(config(|value| value["batch"] = json!({ "size": 1 })).is_err());
}

#[test]
fn case_53_no_error_and_no_debug_text_shows_a_secret() {
    let errors = errors_of(|value| {
        value["urls"] = json!([
            "http://elastic:hunter2@localhost:9200",
            "hunter2://x",
            "http://a:hunter2:1"
        ]);
        value["password"] = json!("hunter2");
        value["api_key"] = json!("hunter2 hunter2");
    });
    let text = format!("{errors:?}");
    assert!(!text.contains("hunter2"), "{text}");
    let paths: Vec<&str> = errors.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "/urls/0",
            "/urls/1",
            "/urls/2",
            "/username",
            "/api_key",
            "/api_key"
        ]
    );
    let config = config(|value| {
        value["username"] = json!("hunter2");
        value["password"] = json!("hunter2");
    });
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn every_limit_is_named() {
    let errors = errors_of(|value| {
        value["urls"] = json!(["http://localhost:9200?a=b"]);
        value["index"] = json!("Visits");
        value["batch"] = json!({ "records": 0, "bytes": "1KiB", "age": "1h" });
        value["request_timeout"] = json!("1ms");
        value["max_in_flight"] = json!(1_000);
        value["username"] = json!("u");
    });
    let paths: Vec<&str> = errors.iter().map(|(path, _)| path.as_str()).collect();
    let expected = [
        "/urls/0",
        "/index",
        "/password",
        "/batch/records",
        "/batch/bytes",
        "/batch/age",
        "/request_timeout",
        "/max_in_flight",
    ];
    assert_eq!(paths, expected);
    assert_eq!(errors_of(|value| value["urls"] = json!([])).len(), 1);
}

#[test]
fn the_schema_shows_defaults_and_forbids_unknown_settings() {
    let schema = serde_json::to_value(schemars::schema_for!(ElasticsearchConfig)).expect("schema");
    assert_eq!(schema["additionalProperties"], json!(false));
    assert_eq!(schema["required"], json!(["urls", "index"]));
    assert_eq!(schema["properties"]["id"]["default"], json!("key"));
    assert_eq!(
        schema["properties"]["request_timeout"]["default"],
        json!("1m")
    );
    assert_eq!(schema["properties"]["password"]["writeOnly"], json!(true));
}

#[test]
fn credentials_are_of_one_kind_and_proxies_and_tls_whole() {
    for (changes, paths) in [
        (json!({ "password_file": "p" }), vec!["/username"]),
        (json!({ "username": "u", "password_file": "p" }), vec![]),
        (
            json!({ "username": "u", "password": "p", "password_file": "p" }),
            vec!["/password_file"],
        ),
        (
            json!({ "api_key": "k", "bearer_token_file": "p" }),
            vec!["/api_key"],
        ),
        (
            json!({ "username": "u", "password": "p", "bearer_token": "t" }),
            vec!["/bearer_token"],
        ),
        (json!({ "bearer_token": "a b" }), vec!["/bearer_token"]),
        (
            json!({ "proxy": { "url": "proxy:3128" } }),
            vec!["/proxy/url"],
        ),
        (
            json!({ "proxy": { "url": "http://p", "username": "u" } }),
            vec!["/proxy"],
        ),
        (
            json!({ "tls": { "key_file": "k" } }),
            vec!["/tls/certificate_file"],
        ),
        (
            json!({ "tls": { "certificate_file": "c" } }),
            vec!["/tls/key_file"],
        ),
        (
            json!({ "tls": { "ca_fingerprint": "ab" } }),
            vec!["/tls/ca_fingerprint"],
        ),
        (
            json!({ "tls": { "ca_file": "c", "ca_fingerprint": "ab".repeat(32) } }),
            vec!["/tls/ca_fingerprint"],
        ),
    ] {
        let errors = errors_of(|value| {
            if let (Some(value), Value::Object(changes)) = (value.as_object_mut(), changes.clone())
            {
                value.extend(changes);
            }
        });
        let found: Vec<&str> = errors.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(found, paths, "{changes}");
    }
}
