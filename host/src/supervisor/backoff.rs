//! When a host that died is started again.

use std::time::Duration;

/// The pauses before restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestartPolicy {
    /// The first pause.
    pub first: Duration,
    /// The longest one; each is twice the one before.
    pub longest: Duration,
    /// A host that was up for this long begins with the first pause again.
    pub reset_after: Duration,
}

impl Default for RestartPolicy {
    /// 1 s, which a person hardly waits for, doubling to 1 min, which a broken dependency bears for days.
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            longest: Duration::from_secs(60),
            reset_after: Duration::from_secs(60),
        }
    }
}

/// The pauses of one host.
#[derive(Debug)]
pub(super) struct Backoff {
    policy: RestartPolicy,
    next: Duration,
}

impl Backoff {
    pub(super) fn new(policy: RestartPolicy) -> Self {
        Self {
            policy,
            next: policy.first,
        }
    }

    /// The pause after a host that was up for `uptime`.
    pub(super) fn pause_after(&mut self, uptime: Duration) -> Duration {
        if uptime >= self.policy.reset_after {
            self.next = self.policy.first;
        }
        let pause = self.next;
        self.next = pause.saturating_mul(2).min(self.policy.longest);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_a_minute_and_begin_anew_after_a_minute_up() {
        let mut backoff = Backoff::new(RestartPolicy::default());
        let mut after = |uptime| backoff.pause_after(Duration::from_secs(uptime)).as_secs();
        let pauses: Vec<u64> = (0..8).map(|_| after(0)).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(after(59), 60);
        assert_eq!(after(60), 1);
        assert_eq!(after(0), 2);
    }
}
