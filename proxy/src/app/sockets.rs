//! The sockets of a sidecar: where it listens, or why it cannot.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use nix::errno::Errno;
use tokio::net::{TcpListener, UnixListener};

use super::AppError;
use crate::admin::RemoveOnDrop;
use crate::listen;

/// Who may connect.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Loopback {
    Only,
    No,
}

/// IPv4, and IPv6 where the host has it.
pub(super) fn bind_both(
    what: &'static str,
    port: u16,
    loopback: Loopback,
) -> Result<Vec<TcpListener>, AppError> {
    let (v4, v6) = match loopback {
        Loopback::Only => (Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST),
        Loopback::No => (Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED),
    };
    let mut listeners = vec![bind(what, SocketAddr::from((v4, port)))?];
    match listen::bind(SocketAddr::from((v6, port))) {
        Ok(listener) => listeners.push(listener),
        // Only when there is none: whoever else holds the port would get what is meant for us.
        Err(error) if lacks_ipv6(&error) => {
            tracing::info!(what, port, %error, "no IPv6 here: listening on IPv4 alone");
        }
        Err(source) => {
            return Err(AppError::Bind { what, addr: SocketAddr::from((v6, port)).to_string(), source });
        }
    }
    Ok(listeners)
}

/// Built or booted without IPv6, or without an address of it.
fn lacks_ipv6(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(Errno::EAFNOSUPPORT as i32)
}

pub(super) fn bind(what: &'static str, addr: SocketAddr) -> Result<TcpListener, AppError> {
    listen::bind(addr).map_err(|source| AppError::Bind { what, addr: addr.to_string(), source })
}

/// A socket that only the own user and root can open, in place of one that a killed sidecar left.
pub(super) fn bind_unix(path: PathBuf) -> Result<(UnixListener, RemoveOnDrop), AppError> {
    let bound = || {
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    };
    match bound() {
        Ok(listener) => Ok((listener, RemoveOnDrop(path))),
        Err(source) => Err(AppError::Bind { what: "admin", addr: path.display().to_string(), source }),
    }
}
