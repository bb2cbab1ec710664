//! The provisioned alert rule over a real run of the reference job: Normal with the delay off, Pending and Alerting with it on, Normal
//! again when it is off. Evaluated live, thirty times as fast as Grafana would: windows, buckets, interval and pending period alike.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use weir_dev::client::{Row, wait_until};
use weir_dev::grafana::{
    ElasticsearchSearch, Evaluation, Observation, Rule, StateMachine, StateName,
};
use weir_dev::host::{Command, Folder, Host};
use weir_dev::scene::{Scene, sample_rows, shared_elasticsearch};

/// One minute becomes two seconds.
const SPEED: i64 = 30;
/// Two seconds as the topology and the rule write them: one document a bucket, as with a minute.
const WINDOW: &str = "2s";
/// Above the rule's 5 s.
const DELAY: &str = "6s";
const DEADLINE: Duration = Duration::from_secs(120);

fn now_ms() -> Result<i64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(i64::try_from(now.as_millis())?)
}

/// The rule of the repository on this scene's index.
fn rule(scene: &Scene) -> Result<Rule> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docker/grafana/provisioning");
    let mut rule = Rule::load(&folder, "visits-sync-sla-miss")?;
    rule.interval_ms /= SPEED;
    rule.pending_period_ms /= SPEED;
    for query in &mut rule.queries {
        query.index = scene.index().name().to_owned();
        for histogram in &mut query.query.bucket_aggs {
            ensure!(
                histogram.settings.interval == "1m",
                "a bucket is no longer a window"
            );
            histogram.settings.interval = WINDOW.to_owned();
        }
    }
    Ok(rule)
}

/// What Grafana would have seen so far.
struct Watch {
    rule: Rule,
    machine: StateMachine,
    search: ElasticsearchSearch,
    seen: Vec<Observation>,
}

impl Watch {
    /// Evaluates at each multiple of the interval, with `before` ahead of it, until the state is `wanted`.
    fn until(&mut self, wanted: StateName, mut before: impl FnMut() -> Result<()>) -> Result<()> {
        let deadline = Instant::now() + DEADLINE;
        while Instant::now() < deadline {
            before()?;
            let at_ms = self.rule.next_evaluation_ms(now_ms()? + 1);
            let wait_ms = u64::try_from(at_ms - now_ms()?).unwrap_or(0);
            thread::sleep(Duration::from_millis(wait_ms));
            let evaluation = self.rule.evaluate(at_ms, &self.search);
            let state = self.machine.step(at_ms, &evaluation);
            let is_done = state.name == wanted;
            self.seen.push(Observation {
                at_ms,
                evaluation,
                state,
            });
            if is_done {
                return Ok(());
            }
        }
        anyhow::bail!("never {wanted:?}: {:#?}", self.seen)
    }

    /// The states without repetitions.
    fn changes(&self) -> Vec<String> {
        let mut changes: Vec<String> = self.seen.iter().map(|o| o.state.to_string()).collect();
        changes.dedup();
        changes
    }
}

fn folder(scene: &Scene, delay: &str) -> Result<Folder> {
    scene.folder(|topology| {
        let reduce = scene.reduce_in(topology);
        reduce["transforms"]["reduced"]["config"] = json!({ "processing_delay": delay });
        let sla = scene.sla_in(topology);
        sla["sources"]["reduced"]["idle_grace"] = json!("1s");
        sla["transforms"]["latency"]["config"]["size"] = json!(WINDOW);
    })
}

fn start(scene: &Scene, folder: &Folder) -> Result<Host> {
    Command::run(folder, &scene.reduce()).start_ready()
}

#[test]
fn the_delay_of_a_real_run_makes_the_rule_alert_and_its_end_makes_it_normal() -> Result<()> {
    let scene = Scene::shared("alerting")?;
    scene.create_visits()?;
    scene.create_reduced()?;
    let (on, off) = (folder(&scene, DELAY)?, folder(&scene, "0s")?);
    // Good rows, all of them.
    let rows: Vec<Row> = sample_rows()?.into_iter().take(4).collect();
    let write = || scene.kafka.write(&scene.visits(), &rows);
    let mut sla = Command::run(&off, &scene.sla()).start_ready()?;
    let mut reduce = start(&scene, &off)?;
    let rule = rule(&scene)?;
    let search = ElasticsearchSearch::new(&shared_elasticsearch()?);
    write()?;
    // No data and errors count as alerting, so the watch begins with the first document. An index that was made a moment
    // ago answers 503 to a search.
    wait_until("the first document", DEADLINE, || {
        match rule.evaluate(now_ms().unwrap_or(0), &search) {
            normal @ Evaluation::Normal { .. } => Ok(normal),
            other => Err(format!("{other:?}")),
        }
    })?;
    let machine = StateMachine::new(&rule, now_ms()?);
    let mut watch = Watch {
        rule,
        machine,
        search,
        seen: Vec::new(),
    };
    watch.until(StateName::Normal, write)?;
    ensure!(reduce.drain()? == 0);

    reduce = start(&scene, &on)?;
    write()?;
    watch.until(StateName::Alerting, || Ok(()))?;
    let newest = watch.seen.last().context("an observation")?;
    ensure!(
        matches!(newest.evaluation, Evaluation::Alerting { .. }),
        "alerting without a value: {newest:?}"
    );
    ensure!(reduce.drain()? == 0);

    reduce = start(&scene, &off)?;
    watch.until(StateName::Normal, write)?;
    ensure!(
        watch.changes() == ["Normal", "Pending", "Alerting", "Normal"],
        "{:#?}",
        watch.seen
    );
    ensure!(reduce.drain()? == 0);
    ensure!(sla.drain()? == 0);
    Ok(())
}
