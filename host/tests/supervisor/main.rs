//! `weir up` with real processes. This program is, by turns, the tests, the supervisor they start, and the hosts that
//! the supervisor starts: the environment variable says which of the three a process is.

mod fake_host;
mod rig;

use libtest_mimic::{Arguments, Failed, Trial};
use rig::{Rig, answer, until};
use rustix::process::Signal;
use serde_json::Value;
use weir::log::Format;

fn main() {
    let mut arguments = std::env::args().skip(1);
    match (std::env::var_os(rig::FOLDER), arguments.next().as_deref()) {
        (Some(folder), Some("run")) => fake_host::main(folder.as_ref()),
        (Some(_), Some("up")) => std::process::exit(rig::up(arguments)),
        _ => libtest_mimic::run(&Arguments::from_args(), trials()).exit(),
    }
}

fn trials() -> Vec<Trial> {
    let tests: [(&str, fn()); 10] = [
        (
            "a_host_that_dies_is_restarted_with_growing_pauses",
            restarts,
        ),
        ("a_killed_host_is_restarted", restarts_the_killed),
        ("a_refused_host_drains_the_others", refused),
        ("sigterm_drains_every_host", sigterm),
        (
            "a_host_between_two_starts_does_not_hold_up_the_end",
            between_starts,
        ),
        ("a_second_signal_ends_at_once", second_signal),
        ("a_host_that_does_not_drain_is_killed", drain_deadline),
        ("hosts_end_with_a_killed_supervisor", killed_supervisor),
        ("a_host_whose_supervisor_is_gone_ends", orphan),
        ("http_joins_the_answers_of_the_hosts", http),
    ];
    let trial = |(name, test): (&str, fn())| {
        Trial::test(name, move || {
            test();
            Ok::<(), Failed>(())
        })
    };
    tests.into_iter().map(trial).collect()
}

fn restarts() {
    let rig = Rig::new(&[("a", "exit 1\npanic\nexit 0\nexit 1\nserve")]);
    let mut up = rig.up(Format::Json, rig::LONG_DRAIN_MS);
    until("the fifth start serves", || {
        up.has_event("ready", "a").then_some(())
    });
    let pauses: Vec<u64> = up
        .events("host_ended")
        .iter()
        .filter_map(|line| line.get("restart_in_ms")?.as_u64())
        .collect();
    assert_eq!(pauses, [20, 40, 80, 80]);
    let panics = up.events("panic");
    assert_eq!(panics.len(), 1);
    assert_eq!(panics[0]["message"], "on purpose");
    assert_eq!(panics[0]["pipeline"], "a");
    assert_eq!(rig.pids("a").len(), 5);
    up.signal(Signal::TERM);
    assert_eq!(up.wait().code(), Some(0), "{}", up.log());
}

fn restarts_the_killed() {
    let rig = Rig::new(&[("a", "serve")]);
    let mut up = rig.up(Format::Json, rig::LONG_DRAIN_MS);
    until("a host serves", || up.has_event("ready", "a").then_some(()));
    rig::kill(rig.pids("a")[0], Signal::KILL);
    until("another host serves", || {
        (up.events("ready").len() == 2).then_some(())
    });
    up.signal(Signal::TERM);
    assert_eq!(up.wait().code(), Some(0), "{}", up.log());
}

fn refused() {
    let rig = Rig::new(&[("a", "serve"), ("b", "refuse when told")]);
    let mut up = rig.up(Format::Text, rig::LONG_DRAIN_MS);
    until("a serves", || {
        let log = up.log();
        log.lines()
            .any(|line| line.starts_with("[a] ") && line.contains("ready:"))
            .then_some(())
    });
    rig.tell();
    assert_eq!(up.wait().code(), Some(2), "{}", up.log());
    assert!(rig.has_drained("a"));
    assert_eq!(
        rig.pids("b").len(),
        1,
        "a refused host is not started again"
    );
    let log = up.log();
    assert_eq!(
        log.lines().last(),
        Some("weir: the host of b was refused; its own lines say why")
    );
    assert!(
        log.lines().any(|line| line == "[b] refused on purpose"),
        "{log}"
    );
}

fn sigterm() {
    let rig = Rig::new(&[("a", "serve"), ("b", "serve")]);
    let mut up = rig.up(Format::Json, rig::LONG_DRAIN_MS);
    until("a and b serve", || {
        (up.has_event("ready", "a") && up.has_event("ready", "b")).then_some(())
    });
    up.signal(Signal::INT);
    assert_eq!(up.wait().code(), Some(0), "{}", up.log());
    assert!(rig.has_drained("a") && rig.has_drained("b"));
    let foreign = up
        .lines_of("a")
        .into_iter()
        .find(|line| line["target"] == "stderr");
    assert_eq!(
        foreign.map(|line| line["message"].clone()),
        Some(Value::from("not a line of a log"))
    );
}

fn between_starts() {
    let mut rig = Rig::new(&[("a", "serve"), ("b", "exit 1")]);
    rig.pause_ms = 600_000;
    let mut up = rig.up(Format::Json, rig::LONG_DRAIN_MS);
    until("a serves and b has died", || {
        (up.has_event("ready", "a") && up.has_event("host_ended", "b")).then_some(())
    });
    up.signal(Signal::TERM);
    assert_eq!(up.wait().code(), Some(0), "{}", up.log());
    assert_eq!(rig.pids("b").len(), 1);
}

fn second_signal() {
    let rig = Rig::new(&[("a", "hang")]);
    let mut up = rig.up(Format::Json, rig::LONG_DRAIN_MS);
    until("a serves", || up.has_event("ready", "a").then_some(()));
    up.signal(Signal::TERM);
    until("it drains", || up.has_event("hanging", "a").then_some(()));
    up.signal(Signal::TERM);
    assert_eq!(up.wait().code(), Some(1), "{}", up.log());
    assert!(!rig::is_alive(rig.pids("a")[0]));
    let log = up.log();
    let last = log.lines().last();
    assert_eq!(
        last,
        Some("weir: a second signal ended the hosts before they had drained")
    );
}

fn drain_deadline() {
    let rig = Rig::new(&[("a", "hang"), ("b", "serve")]);
    let mut up = rig.up(Format::Json, 200);
    until("both serve", || {
        (up.has_event("ready", "a") && up.has_event("ready", "b")).then_some(())
    });
    up.signal(Signal::TERM);
    assert_eq!(up.wait().code(), Some(1), "{}", up.log());
    assert!(rig.has_drained("b"));
    assert!(!rig::is_alive(rig.pids("a")[0]));
    assert_eq!(
        up.log().lines().last(),
        Some("weir: not every host drained in time")
    );
}

fn killed_supervisor() {
    let rig = Rig::new(&[("a", "serve"), ("b", "serve")]);
    let mut up = rig.up(Format::Json, rig::LONG_DRAIN_MS);
    until("a and b serve", || {
        (up.has_event("ready", "a") && up.has_event("ready", "b")).then_some(())
    });
    up.signal(Signal::KILL);
    assert_eq!(up.wait().code(), None);
    for pipeline in ["a", "b"] {
        until("the host has drained", || {
            rig.has_drained(pipeline).then_some(())
        });
        until("the host has ended", || {
            (!rig::is_alive(rig.pids(pipeline)[0])).then_some(())
        });
    }
}

fn orphan() {
    let rig = Rig::new(&[("a", "serve")]);
    // The test is the parent, so a supervisor of this number is gone, as if it had died before the host looked.
    let status = rig.host_of_parent("a", 1);
    assert_eq!(status.code(), Some(fake_host::EXIT_ORPHAN));
    assert!(!rig.has_drained("a"));
}

fn http() {
    let rig = Rig::new(&[("a", "serve"), ("b", "exit 1\nserve when told")]);
    let mut up = rig.up(Format::Json, rig::LONG_DRAIN_MS);
    let address = until("up listens", || up.address());
    until("a serves", || up.has_event("ready", "a").then_some(()));
    until("b was started again", || {
        (rig.pids("b").len() == 2).then_some(())
    });

    let (code, body) = until("a is ready and b is not", || {
        let (code, body) = answer(address, "/readyz");
        body.contains(r#""state":"running""#)
            .then_some((code, body))
    });
    assert_eq!(code, 503);
    let readyz: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(readyz["ready"], Value::Bool(false));
    assert_eq!(readyz["pipelines"][0]["pipeline"], "a");
    assert_eq!(readyz["pipelines"][0]["ready"], Value::Bool(true));
    assert_eq!(readyz["pipelines"][1]["pipeline"], "b");
    assert_eq!(readyz["pipelines"][1]["reasons"][0], "the host is starting");

    rig.tell();
    until("both are ready", || {
        (answer(address, "/readyz").0 == 200).then_some(())
    });
    let (code, metrics) = answer(address, "/metrics");
    assert_eq!(code, 200);
    for line in [
        r#"weir_task_state{pipeline="a",task="0",state="running"} 1.0"#,
        r#"weir_task_state{pipeline="b",task="0",state="running"} 1.0"#,
        r#"weir_host_up{pipeline="b"} 1"#,
        r#"weir_host_restarts_total{pipeline="a"} 0"#,
        r#"weir_host_restarts_total{pipeline="b"} 1"#,
    ] {
        assert!(
            metrics.lines().any(|known| known == line),
            "{line}\n{metrics}"
        );
    }
    assert_eq!(metrics.matches("# TYPE weir_task_state ").count(), 1);
    assert_eq!(answer(address, "/healthz").0, 200);
    assert_eq!(answer(address, "/connectors").0, 404);
    up.signal(Signal::TERM);
    assert_eq!(up.wait().code(), Some(0), "{}", up.log());
}
