//! What the operating system says of this process.

use super::super::memory;
use super::catalogue as m;
use super::page::Page;
use rustix::time::{ClockId, clock_gettime};

/// Shows what it tells; on some systems that is little.
pub(super) fn show(page: &mut Page, started: f64) {
    if let Some(bytes) = memory::resident_bytes() {
        page.add(m::RESIDENT, &[], bytes);
    }
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    page.add(m::CPU, &[], cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9);
    page.add(m::STARTED, &[], started);
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        page.add(m::OPEN_FILES, &[], open.count());
    }
}
