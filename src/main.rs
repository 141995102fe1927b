//! The executable `adu-export`.

/// Chunks pass memory from thread to thread and run for minutes. With glibc's allocator each arena would keep
/// the peak of every chunk that ever used it, and the process would grow with the table (I8).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// One arena per core instead of four, and free pages go back to the system within a second, so that memory
/// stays at what is in use. `_RJEM_MALLOC_CONF` in the environment overrides these settings.
#[expect(unsafe_code, reason = "the symbol by which jemalloc finds its settings; nothing else has this name")]
#[unsafe(export_name = "_rjem_malloc_conf")]
static SETTINGS: &std::ffi::c_char = {
    const TEXT: &std::ffi::CStr = c"narenas_ratio:1,dirty_decay_ms:1000,muzzy_decay_ms:0";
    // SAFETY: a C string has at least its terminator to point at, and is never written.
    unsafe { &*TEXT.as_ptr() }
};

fn main() -> std::process::ExitCode {
    adu_export::cli::main()
}
