//! Ctrl-C: the processes go with this one, and the files must, too.

use std::fs;
use std::path::Path;

use tokio::signal::unix::{SignalKind, signal};

use super::error::DemoError;

/// From now on SIGINT and SIGTERM remove `dir` and end the program.
pub(super) fn clean_up_when_interrupted(dir: &Path) -> Result<(), DemoError> {
    let dir = dir.to_owned();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(DemoError::io("a runtime for signals"))?;
    let listen = {
        let _context = runtime.enter();
        signal(SignalKind::interrupt()).and_then(|i| Ok((i, signal(SignalKind::terminate())?)))
    };
    let (mut interrupt, mut terminate) = listen.map_err(DemoError::io("cannot listen for signals"))?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        let _ = fs::remove_dir_all(dir);
        // 128 + SIGINT, as shells have it. The kernel ends the processes of the sandbox with its first one.
        std::process::exit(130);
    });
    Ok(())
}
