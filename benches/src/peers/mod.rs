//! One file per runtime: how it answers to the traits that the workloads are written against.

/// `blocking::Locks` for locks shaped as those of std; `[.unwrap()]` where they can be poisoned.
macro_rules! blocking_locks {
    ($name:ident, $mutex:ty, $rwlock:ty, [$($unwrap:tt)*] $(, $more:item)*) => {
        impl $crate::blocking::Locks for $name {
            type Mutex = $mutex;
            type RwLock = $rwlock;

            fn mutex() -> Self::Mutex {
                Self::Mutex::new(0)
            }

            fn increment(mutex: &Self::Mutex) -> u64 {
                let mut count = mutex.lock()$($unwrap)*;
                *count += 1;
                *count - 1
            }

            fn rwlock() -> Self::RwLock {
                Self::RwLock::new(0)
            }

            fn read(rwlock: &Self::RwLock) -> u64 {
                *rwlock.read()$($unwrap)*
            }

            fn write(rwlock: &Self::RwLock) {
                *rwlock.write()$($unwrap)* += 1;
            }

            $($more)*
        }
    };
}

/// `futures::Locks` for locks shaped as those of tokio.
macro_rules! async_locks {
    ($name:ident, $mutex:ty, $rwlock:ty) => {
        impl $crate::futures::Locks for $name {
            type Mutex = $mutex;
            type RwLock = $rwlock;

            fn mutex() -> Self::Mutex {
                Self::Mutex::new(0)
            }

            async fn increment(mutex: &Self::Mutex) -> u64 {
                let mut count = mutex.lock().await;
                *count += 1;
                *count - 1
            }

            fn rwlock() -> Self::RwLock {
                Self::RwLock::new(0)
            }

            async fn read(rwlock: &Self::RwLock) -> u64 {
                *rwlock.read().await
            }

            async fn write(rwlock: &Self::RwLock) {
                *rwlock.write().await += 1;
            }
        }
    };
}

pub(crate) mod may;
pub(crate) mod smol;
pub(crate) mod strands;
pub(crate) mod strands_tasks;
pub(crate) mod threads;
pub(crate) mod tokio;
