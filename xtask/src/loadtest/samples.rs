//! What the machine and the replicas show of themselves, once a second.

use crate::replicas::Cluster;
use std::fs;
use std::time::SystemTime;

/// One look.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sample {
    /// When, in seconds since 1970.
    pub(super) at: f64,
    /// The resident memory of each replica, in bytes. None while it is down.
    pub(super) memory: Vec<Option<u64>>,
    /// The processor time each replica has used so far, in seconds.
    pub(super) replicas_cpu: Vec<Option<f64>>,
    /// The processor time k6 has used so far, in seconds.
    pub(super) k6_cpu: Option<f64>,
    /// The processor time that all of the machine has used so far, in seconds.
    pub(super) machine_cpu: Option<f64>,
    /// The tasks in the store. None if no replica told.
    pub(super) tasks: Option<Tasks>,
}

impl Sample {
    /// Looks once at everything. k6 is the process of that id.
    pub(super) fn take(cluster: &Cluster, k6: Option<u32>) -> Self {
        let pids = cluster.pids();
        Self {
            at: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
            memory: pids.iter().map(|pid| pid.and_then(memory)).collect(),
            replicas_cpu: pids.iter().map(|pid| pid.and_then(process_cpu)).collect(),
            k6_cpu: k6.and_then(process_cpu),
            machine_cpu: machine_cpu(),
            // Each replica counts the tasks of the whole cluster.
            tasks: cluster.ask(Tasks::read),
        }
    }
}

/// Tasks in the store, by what is still to be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tasks {
    /// Scheduled, queued or running.
    pub(super) pending: u64,
    /// Succeeded.
    pub(super) succeeded: u64,
    /// Failed.
    pub(super) failed: u64,
    /// Cancelled.
    pub(super) cancelled: u64,
}

impl Tasks {
    /// Reads a page of metrics. None if it says nothing of tasks.
    pub(super) fn read(page: &str) -> Option<Self> {
        let mut tasks = Self::default();
        let mut said = false;
        for line in page.lines() {
            let Some((state, value)) =
                line.strip_prefix("callboard_tasks{state=\"").and_then(|rest| rest.split_once("\"} "))
            else {
                continue;
            };
            let count: u64 = value.trim().parse().ok()?;
            said = true;
            match state {
                "succeeded" => tasks.succeeded = count,
                "failed" => tasks.failed = count,
                "cancelled" => tasks.cancelled = count,
                _ => tasks.pending += count,
            }
        }
        said.then_some(tasks)
    }

    /// Those that have ended.
    pub(super) fn ended(self) -> u64 {
        self.succeeded + self.failed + self.cancelled
    }
}

/// The resident memory of a process, in bytes.
pub(super) fn memory(pid: u32) -> Option<u64> {
    resident(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
}

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// The processor time a process has used, in seconds.
pub(super) fn process_cpu(pid: u32) -> Option<f64> {
    used(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// A tick of Linux is 10 ms for whoever reads this.
const TICKS: f64 = 100.0;

fn used(stat: &str) -> Option<f64> {
    // Its name, in parentheses, may hold anything.
    let mut fields = stat.rsplit(')').next()?.split_whitespace().skip(11);
    let (user, system) = (fields.next()?.parse::<u64>().ok()?, fields.next()?.parse::<u64>().ok()?);
    Some((user + system) as f64 / TICKS)
}

/// The processor time that all of the machine has used, in seconds.
pub(super) fn machine_cpu() -> Option<f64> {
    busy(&fs::read_to_string("/proc/stat").ok()?)
}

fn busy(stat: &str) -> Option<f64> {
    let fields: Vec<u64> =
        stat.lines().next()?.split_whitespace().skip(1).map_while(|field| field.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq, steal; what follows is counted in user already.
    let idle: u64 = fields.iter().skip(3).take(2).sum();
    Some((fields.iter().take(8).sum::<u64>() - idle) as f64 / TICKS)
}

/// The machine, for a reader: its cores and its memory.
pub(super) fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = info.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or_default();
    format!("{cores} cores, {:.0} GiB of memory", kib / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_are_read_from_the_page() {
        let page = "# TYPE callboard_tasks gauge\ncallboard_tasks{state=\"scheduled\"} 1\n\
            callboard_tasks{state=\"queued\"} 2\ncallboard_tasks{state=\"running\"} 3\n\
            callboard_tasks{state=\"succeeded\"} 40\ncallboard_tasks{state=\"failed\"} 5\n\
            callboard_tasks{state=\"cancelled\"} 6\ncallboard_outbox_rows 7\n";
        let tasks = Tasks::read(page).unwrap();
        assert_eq!(tasks, Tasks { pending: 6, succeeded: 40, failed: 5, cancelled: 6 });
        assert_eq!(tasks.ended(), 51);
        assert_eq!(Tasks::read("callboard_outbox_rows 7\n"), None);
    }

    #[test]
    fn memory_and_processor_time_are_read_as_linux_writes_them() {
        assert_eq!(resident("Name:\tk6\nVmRSS:\t  1024 kB\n"), Some(1 << 20));
        assert_eq!(used("7 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0"), Some(2.0));
        assert_eq!(busy("cpu  100 0 100 5000 300 0 50 0 9 9\ncpu0 1 2 3\n"), Some(2.5));
        let own = std::process::id();
        assert!(memory(own).unwrap() > 0 && process_cpu(own).is_some() && machine_cpu().unwrap() > 0.0);
    }
}
