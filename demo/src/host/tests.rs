use super::*;

#[test]
fn events_are_read_in_both_shapes_and_behind_a_prefix() {
    let mut log = HostLog::default();
    log.read_line(
        r#"{"level":"INFO","event":"ready","pipeline":"a","role":"active","http":"127.0.0.1:1"}"#,
    );
    log.read_line(r#"b | {"level":"INFO","fields":{"event":"ready","pipeline":"b","role":"standby","http":"127.0.0.1:2"}}"#);
    log.read_line("b | no JSON");
    log.read_line("b | {no JSON");
    log.read_line(r#"{"event":"listening","pipeline":"c","http":"127.0.0.1:3"}"#);
    log.read_line(r#"{"event":"listening","http":"127.0.0.1:4"}"#);
    assert_eq!(log.http.as_deref(), Some("127.0.0.1:4"));
    let listening = log.pipelines.get("c").expect("a pipeline");
    assert_eq!(listening.http.as_deref(), Some("127.0.0.1:3"));
    assert_eq!(listening.starts, 0);
    let ready = |role: &str, http: &str| PipelineLog {
        role: Some(role.to_owned()),
        http: Some(http.to_owned()),
        starts: 1,
    };
    assert_eq!(
        log.pipelines.get("a"),
        Some(&ready("active", "127.0.0.1:1"))
    );
    assert_eq!(
        log.pipelines.get("b"),
        Some(&ready("standby", "127.0.0.1:2"))
    );
    assert_eq!(log.take_complaints(), ["b | no JSON", "b | {no JSON"]);
}

#[test]
fn complaints_are_kept_until_they_are_shown_and_bounded() {
    let mut log = HostLog::default();
    log.read_line(r#"{"level":"WARN","pipeline":"a","message":"slow"}"#);
    log.read_line(r#"{"level":"INFO","message":"fine"}"#);
    assert_eq!(log.take_complaints(), ["WARN a: slow"]);
    for number in 0..COMPLAINTS_MAX + 1 {
        log.read_line(&format!(
            r#"{{"level":"ERROR","fields":{{"message":"{number}"}}}}"#
        ));
    }
    let complaints = log.take_complaints();
    assert_eq!(complaints.len(), COMPLAINTS_MAX);
    assert_eq!(complaints.first().map(String::as_str), Some("ERROR 1"));
}

/// Starts the stand-in for `weir`, which becomes ready and drains on SIGTERM, or ends at once.
fn start_stand_in(directory: &Path, behaviour: &str, log: &Arc<Mutex<HostLog>>) -> Host {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stand-in/weir");
    let environment = [("STAND_IN", behaviour.to_owned())];
    let path = directory.join("up.log");
    Host::start(
        &program,
        Path::new("connectors.yaml"),
        &environment,
        path,
        log,
    )
    .expect("a child")
}

fn wait_until(condition: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

#[test]
fn a_host_is_started_with_its_arguments_watched_and_drained() {
    let directory = tempfile::tempdir().expect("a folder");
    let log = Arc::new(Mutex::new(HostLog::default()));
    let mut host = start_stand_in(directory.path(), "serve", &log);
    assert!(wait_until(|| log
        .lock()
        .expect("a lock")
        .pipelines
        .contains_key("a")));
    assert!(host.ended().expect("a status").is_none());
    let status = host.drain().expect("a drain");
    assert_eq!(status.code(), Some(0));
    let text = std::fs::read_to_string(host.log_path()).expect("a log");
    assert!(
        text.contains("args up --file connectors.yaml --log-format json\n"),
        "{text}"
    );
    assert!(text.contains("drained"), "{text}");
}

#[test]
fn a_host_that_ends_by_itself_is_seen() {
    let directory = tempfile::tempdir().expect("a folder");
    let log = Arc::new(Mutex::new(HostLog::default()));
    let host = Mutex::new(start_stand_in(directory.path(), "exit", &log));
    let ended = || host.lock().expect("a lock").ended().expect("a status");
    assert!(wait_until(|| ended().is_some()));
    assert_eq!(ended().and_then(|status| status.code()), Some(2));
}
