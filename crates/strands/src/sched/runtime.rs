//! Everything that workers share.

use super::alarms::Alarms;
use super::blocking::Spares;
use super::clock::Clock;
use super::goroutine::{Goroutine, Runnable};
use super::here::Here;
use super::hosts::{Guest, Hosts};
use super::idle::{Assignment, Idle, Sleeper, Summons};
use super::monitor::Monitor;
use super::offenders::{Held, Offenders, Portrait, Site};
use super::panic_count::PanicCount;
use super::poller::{self, Makeshift, Outside};
use super::processor::Processor;
use super::threads;
use super::timers::NEVER;
use super::worker::{Bed, Occupants, Worker};
use crate::config::{self, Settings};
use crate::queue::{Injector, RunQueue};
use crate::stack::{self, Stacks};
use crate::sys;
use std::io;
use std::num::NonZeroU64;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};

/// After this many searches in a row that found nothing, one lone fresh goroutine wakes nobody: whoever
/// spawned it is about to run it itself. (The monitor sees to it if not.)
const FRUITLESS: u32 = 3;

/// A runtime: the process has one, made at the first `go`, which never ends.
pub(crate) struct Runtime {
    pub(crate) settings: Settings,
    pub(super) cpus: usize,
    pub(super) clock: Clock,
    pub(super) stacks: Stacks,
    pub(super) processors: Box<[Processor]>,
    pub(super) injector: Injector<Runnable>,
    pub(super) idle: Idle<Bed>,
    pub(super) alarms: Alarms,
    pub(super) outside: Outside,
    pub(super) makeshift: Makeshift,
    pub(super) monitor: Monitor,
    pub(super) spares: Spares,
    pub(super) offenders: Offenders,
    pub(super) hosts: Hosts,
    pub(super) panic_count: PanicCount,
    /// All there ever were; those whose threads have ended are reused.
    workers: RwLock<Vec<&'static Worker>>,
    /// Who was last seen on which CPU.
    pub(super) occupants: Occupants,
    retired: Mutex<Vec<&'static Worker>>,
    /// Workers that have a thread or are about to.
    alive: AtomicUsize,
    fruitless: AtomicU32,
    next_id: AtomicU64,
    /// Goroutines spawned by plain threads.
    spawned_outside: AtomicU64,
    /// How often a processor was taken from a blocked worker, and from a hogging one.
    pub(super) taken_blocked: AtomicU64,
    pub(super) taken_hogging: AtomicU64,
    /// Goroutines that were started on threads of their own.
    goroutines_apart: AtomicU64,
    /// How often a worker was brought to the CPU of another.
    pub(super) called_over: AtomicU64,
    told_of_most_threads: AtomicBool,
    /// Stacks that were given back memory from.
    pub(super) trimmed: AtomicU64,
}

/// Counts for [`crate::runtime::metrics`].
pub(crate) struct Tallies {
    pub(crate) spawned: u64,
    pub(crate) ended: u64,
    pub(crate) workers: usize,
    pub(crate) spares: usize,
    pub(crate) taken_blocked: u64,
    pub(crate) taken_hogging: u64,
    pub(crate) offending_sites: usize,
    pub(crate) goroutines_apart: u64,
    pub(crate) threads_apart: usize,
    pub(crate) called_over: u64,
    pub(crate) stacks_trimmed: u64,
}

static RUNTIME: AtomicPtr<Runtime> = AtomicPtr::new(ptr::null_mut());

impl Runtime {
    /// The runtime, started now if it was not.
    ///
    /// # Errors
    /// A thread or memory was refused.
    #[inline]
    pub(crate) fn get() -> io::Result<&'static Runtime> {
        match Runtime::running() {
            Some(runtime) => Ok(runtime),
            None => Runtime::start(),
        }
    }

    /// The runtime, if it has been started.
    #[inline]
    pub(crate) fn running() -> Option<&'static Runtime> {
        // Ordering: Acquire pairs with the Release in `start`.
        // SAFETY: set once, to a runtime that is never freed.
        unsafe { RUNTIME.load(Ordering::Acquire).as_ref() }
    }

    #[cold]
    fn start() -> io::Result<&'static Runtime> {
        static STARTING: Mutex<()> = Mutex::new(());
        let _starting = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = Runtime::running() {
            return Ok(runtime);
        }
        sys::membarrier::prepare();
        let settings = config::take();
        let processors = settings.processors;
        let panic_count =
            if settings.find_panic_count { PanicCount::find() } else { PanicCount::unknown() };
        let runtime: &'static Runtime = Box::leak(Box::new(Runtime {
            cpus: std::thread::available_parallelism().map_or(1, |n| n.get()),
            clock: Clock::new(),
            stacks: Stacks::new(settings.guards),
            processors: (0..processors).map(|_| Processor::new()).collect(),
            injector: Injector::new(),
            idle: Idle::new(processors),
            alarms: Alarms::new(processors),
            outside: Outside::new(),
            makeshift: Makeshift::new(),
            monitor: Monitor::new(),
            spares: Spares::new(),
            offenders: Offenders::new(),
            hosts: Hosts::new(),
            panic_count,
            settings,
            workers: RwLock::new(Vec::new()),
            occupants: Occupants::new(),
            retired: Mutex::new(Vec::new()),
            alive: AtomicUsize::new(0),
            fruitless: AtomicU32::new(0),
            next_id: AtomicU64::new(1),
            spawned_outside: AtomicU64::new(0),
            taken_blocked: AtomicU64::new(0),
            taken_hogging: AtomicU64::new(0),
            goroutines_apart: AtomicU64::new(0),
            called_over: AtomicU64::new(0),
            told_of_most_threads: AtomicBool::new(false),
            trimmed: AtomicU64::new(0),
        }));
        // Without a handler an overflow is a bare SIGSEGV: it still stops at the guard.
        let _ = stack::install_overflow_handler(super::census::report_overflow);
        super::monitor::start(runtime)?;
        // Ordering: Release pairs with the Acquire in `running`.
        RUNTIME.store(ptr::from_ref(runtime).cast_mut(), Ordering::Release);
        Ok(runtime)
    }

    /// `count` ids in a row; the first of them.
    pub(super) fn take_ids(&self, count: u64) -> u64 {
        self.next_id.fetch_add(count, Ordering::Relaxed)
    }

    /// An id for a goroutine that a plain thread spawns.
    pub(super) fn new_id(&self) -> NonZeroU64 {
        NonZeroU64::new(self.take_ids(1)).expect("ids start at one")
    }

    /// Takes in a goroutine that a plain thread has made.
    pub(super) fn inject_from_outside(&self, goroutine: NonNull<Goroutine>) {
        self.spawned_outside.fetch_add(1, Ordering::Relaxed);
        self.inject(goroutine);
    }

    /// Puts a fresh goroutine where everybody looks, and lets somebody know.
    pub(super) fn inject(&self, goroutine: NonNull<Goroutine>) {
        // SAFETY: just made, in no queue, and anybody may start it.
        unsafe { self.injector.push(goroutine.cast()) };
        self.announce();
    }

    /// The same for a roaming goroutine that is ready.
    ///
    /// # Safety
    /// It is suspended, in no queue, and the caller's.
    pub(super) unsafe fn inject_ready(&self, roaming: NonNull<Runnable>) {
        // SAFETY: the caller's promise; anybody may resume it.
        unsafe { self.injector.push(roaming) };
        self.announce();
    }

    /// Wakes somebody for fresh work, if anybody has to be woken.
    pub(super) fn announce(&self) {
        if let Some(summons) = self.idle.announce() {
            self.answer(summons);
        }
    }

    /// The same for work in the caller's own queue. No guarantee is needed here (the caller is awake, and
    /// the monitor watches), so no fence, and no waking for what the caller will run itself.
    #[inline]
    pub(super) fn announce_own(&self, queue: &RunQueue<Runnable>) {
        if self.idle.any_idle() && !self.idle.is_searching() {
            let alone = queue.ring().is_empty();
            if !alone || self.fruitless.load(Ordering::Relaxed) < FRUITLESS {
                self.announce();
            }
        }
    }

    /// Announces what is there for others to take, if anything is.
    pub(super) fn announce_spare_work(&self) {
        if self.has_spare_work() {
            self.announce();
        }
    }

    /// Whether there is work that nobody in particular is about to do.
    pub(super) fn has_spare_work(&self) -> bool {
        !self.injector.is_empty() || self.processors.iter().any(|p| p.queue().ring().len() > 1)
    }

    /// Remembers whether searching pays.
    pub(super) fn search_ended(&self, found: bool) {
        if found {
            self.fruitless.store(0, Ordering::Relaxed);
        } else {
            self.fruitless.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Finds a worker for a processor that the caller has taken from another.
    pub(super) fn hand_over(&self, processor: usize) {
        let summons = self.idle.hand_over(processor);
        self.answer(summons);
    }

    fn answer(&self, summons: Summons<Bed>) {
        match summons {
            Summons::Wake(bed) => bed.wake(),
            Summons::Start(assignment) => {
                // With other workers alive the work is late, not lost: the monitor tries again.
                let _ = self.start_worker(assignment);
            }
        }
    }

    /// Makes sure that there is a worker at all.
    ///
    /// # Errors
    /// There is none, and the thread for one was refused.
    pub(super) fn ensure_worker(&self) -> io::Result<()> {
        if self.alive.load(Ordering::Acquire) > 0 {
            return Ok(());
        }
        match self.idle.try_take() {
            Some(processor) => self.start_worker(Assignment { processor, searching: false }),
            None => Ok(()),
        }
    }

    /// Starts a worker's thread. If that fails, the assignment is undone.
    pub(super) fn start_worker(&self, assignment: Assignment) -> io::Result<()> {
        self.start_thread(move |here| here.work(Some(assignment))).inspect_err(|_| {
            self.idle.give_back(assignment.processor);
            if assignment.searching {
                self.idle.end_search();
            }
        })
    }

    /// Starts a thread for a guest. If that fails, the guest is given back.
    pub(super) fn start_host(&self, guest: Guest) -> Result<(), Guest> {
        let refused = Guest { goroutine: guest.goroutine, held: guest.held };
        self.start_thread(move |here| here.host(guest)).map_err(|_| refused)
    }

    fn start_thread(&self, life: impl FnOnce(Here) + Send + 'static) -> io::Result<()> {
        if !self.may_start_thread() {
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, "`Config::max_threads`"));
        }
        let worker = self.vacant_worker();
        self.alive.fetch_add(1, Ordering::SeqCst);
        let name = format!("strands-{}", worker.index());
        threads::start(name, move || worker_main(worker, life)).inspect_err(|_| {
            self.alive.fetch_sub(1, Ordering::SeqCst);
            self.retired.lock().unwrap_or_else(PoisonError::into_inner).push(worker);
        })
    }

    /// Whether one more thread is within what is allowed. Several that ask at once may all get one.
    pub(super) fn may_start_thread(&self) -> bool {
        let threads = self.alive() + self.spares.threads();
        if threads < self.settings.max_threads {
            return true;
        }
        if !self.told_of_most_threads.swap(true, Ordering::Relaxed) && self.settings.advice {
            let text = format!(
                "strands: all of {threads} threads are in use, as many as are allowed; goroutines wait until one \
                 is free. Allow more with STRANDS_MAXTHREADS or `Config::max_threads`, or block fewer\n"
            );
            sys::say(text.as_bytes());
        }
        false
    }

    /// Starts a goroutine on a thread of its own, or gives it back.
    #[cold]
    pub(super) fn set_apart(&self, site: Site, guest: Guest) -> Option<NonNull<Goroutine>> {
        match self.hosts.lodge(self, guest) {
            Ok(()) => {
                self.goroutines_apart.fetch_add(1, Ordering::Relaxed);
                if let Some(portrait) = self.offenders.set_apart(site)
                    && self.settings.advice
                {
                    sys::say(advice(portrait).as_bytes());
                }
                None
            }
            Err(guest) => Some(guest.goroutine),
        }
    }

    fn vacant_worker(&self) -> &'static Worker {
        let retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner).pop();
        retired.unwrap_or_else(|| {
            let runtime = Runtime::running().expect("workers start after the runtime");
            let mut workers = self.workers.write().unwrap_or_else(PoisonError::into_inner);
            let worker: &'static Worker = Box::leak(Box::new(Worker::new(workers.len(), runtime)));
            workers.push(worker);
            worker
        })
    }

    pub(super) fn worker(&self, index: usize) -> Option<&'static Worker> {
        self.workers.read().unwrap_or_else(PoisonError::into_inner).get(index).copied()
    }

    pub(super) fn workers(&self) -> Vec<&'static Worker> {
        self.workers.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a timer is pending, or being fired.
    pub(super) fn any_timers(&self) -> bool {
        let workers = self.workers.read().unwrap_or_else(PoisonError::into_inner);
        self.alarms.any() || workers.iter().any(|worker| worker.timers().earliest() != NEVER)
    }

    /// Whether somebody waits for a descriptor, or is being woken as it is ready.
    pub(super) fn any_io(&self) -> bool {
        // In this order: who is taken out of a line is being delivered by then, or its worker is up.
        poller::anybody_waits() || self.outside.is_delivering() || self.makeshift.is_delivering()
    }

    pub(super) fn alive(&self) -> usize {
        self.alive.load(Ordering::SeqCst)
    }

    /// For each processor, how far its worker has got.
    pub(super) fn progress_of_owners(&self) -> Vec<Option<(usize, u64)>> {
        let workers = self.workers.read().unwrap_or_else(PoisonError::into_inner);
        let progress = |owner: usize| Some((owner, workers.get(owner)?.progress()));
        self.processors.iter().map(|p| p.owner().and_then(progress)).collect()
    }

    pub(crate) fn tallies(&self) -> Tallies {
        let mut spawned = self.spawned_outside.load(Ordering::Relaxed);
        let mut ended = 0;
        for worker in self.workers() {
            let (s, e) = worker.tallies();
            spawned += s;
            ended += e;
        }
        Tallies {
            spawned,
            ended,
            workers: self.alive(),
            spares: self.spares.threads(),
            taken_blocked: self.taken_blocked.load(Ordering::Relaxed),
            taken_hogging: self.taken_hogging.load(Ordering::Relaxed),
            offending_sites: self.offenders.count(),
            goroutines_apart: self.goroutines_apart.load(Ordering::Relaxed),
            threads_apart: self.hosts.threads(),
            called_over: self.called_over.load(Ordering::Relaxed),
            stacks_trimmed: self.trimmed.load(Ordering::Relaxed),
        }
    }
}

/// What there is to say about an offending site, in one line.
fn advice(Portrait { birth, held }: Portrait) -> String {
    let (what, remedy) = match held {
        Held::Blocked => (
            "block their threads",
            "make such calls by `strands::blocking`, and use `strands::sync` and `strands::channel` to wait",
        ),
        Held::Hogged => (
            "compute without a pause",
            "call `strands::yield_now` now and then, or compute in `strands::blocking`",
        ),
    };
    format!(
        "strands: goroutines from {}:{} {what} for 10 ms and more, so they now start on threads of their own; \
         {remedy} (silence this with `Config::advice(false)` or STRANDS_DEBUG=advice=off)\n",
        birth.file(),
        birth.line()
    )
}

fn worker_main(worker: &'static Worker, life: impl FnOnce(Here)) {
    /// A panic in the loop is a bug of ours that leaves goroutines nobody can run.
    struct AbortOnUnwind;
    impl Drop for AbortOnUnwind {
        fn drop(&mut self) {
            sys::say(b"strands: a worker has panicked; this is a bug in strands\n");
            std::process::abort();
        }
    }
    let bomb = AbortOnUnwind;
    // Without a stack of its own a signal handler cannot report an overflow; the overflow still faults.
    let _alt_stack = stack::ensure_alt_stack();
    sys::tighten_timer_slack();
    let here = Here::take_seat(worker);
    life(here);
    here.leave();
    let runtime = worker.runtime();
    runtime.alive.fetch_sub(1, Ordering::SeqCst);
    runtime.retired.lock().unwrap_or_else(PoisonError::into_inner).push(worker);
    std::mem::forget(bomb);
}
