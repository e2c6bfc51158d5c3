//! A link of a given length: a proxy that passes bytes on after a fixed time.
//!
//! In user space, so that it needs no rights: one thread reads and notes the time, another waits until
//! it is due and writes. What it adds beyond the delay is the time of two wake-ups.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use skein_runtime::{Clock, Instant, Tasks};

/// Most pieces on their way in one direction.
const PIECES_MAX: usize = 4096;
/// Bytes of a piece.
const PIECE: usize = 256 << 10;
/// How often a thread looks whether it shall end.
const LOOK: Duration = Duration::from_millis(100);

/// Starts a proxy before `target`; its address. Ends with `tasks`.
///
/// # Errors
/// If there is no port or thread.
pub fn start(
    target: SocketAddr,
    delay: Duration,
    (tasks, clock): (&Tasks, &Arc<dyn Clock>),
) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    listener.set_nonblocking(true)?;
    let (owner, clock) = (tasks.clone(), Arc::clone(clock));
    tasks.thread("delay", move |stopping| {
        while !stopping.is_cancelled() {
            match listener.accept() {
                Ok((stream, _)) => {
                    if let Err(error) = join(stream, target, delay, (&owner, &clock)) {
                        tracing::warn!(%error, "a delayed link cannot be made");
                    }
                }
                Err(_) => std::thread::park_timeout(LOOK / 10),
            }
        }
    })?;
    Ok(address)
}

fn join(
    near: TcpStream,
    target: SocketAddr,
    delay: Duration,
    (tasks, clock): (&Tasks, &Arc<dyn Clock>),
) -> io::Result<()> {
    near.set_nonblocking(false)?;
    let far = TcpStream::connect(target)?;
    for (from, to) in [(&near, &far), (&far, &near)] {
        from.set_read_timeout(Some(LOOK))?;
        to.set_nodelay(true)?;
        let (from, to) = (from.try_clone()?, to.try_clone()?);
        let (sender, waiting) = sync_channel(PIECES_MAX);
        let reading = Arc::clone(clock);
        tasks.thread("delay reads", move |stopping| {
            read(from, &sender, (delay, reading.as_ref()), &|| {
                stopping.is_cancelled()
            });
        })?;
        let writing = Arc::clone(clock);
        tasks.thread("delay writes", move |_| {
            write(to, &waiting, writing.as_ref());
        })?;
    }
    Ok(())
}

type Piece = (Instant, Vec<u8>);

fn read(
    mut from: TcpStream,
    to: &SyncSender<Piece>,
    (delay, clock): (Duration, &dyn Clock),
    ended: &dyn Fn() -> bool,
) {
    let mut buffer = vec![0; PIECE];
    while !ended() {
        match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => {
                let due = clock.now().after(delay);
                if to.send((due, buffer[..read].to_vec())).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

/// Until nobody reads any more.
fn write(mut to: TcpStream, waiting: &Receiver<Piece>, clock: &dyn Clock) {
    while let Ok((due, bytes)) = waiting.recv() {
        loop {
            let left = due.since(clock.now());
            if left.is_zero() {
                break;
            }
            std::thread::park_timeout(left);
        }
        if to.write_all(&bytes).is_err() {
            break;
        }
    }
    // The other side shall not wait for more.
    let _ = to.shutdown(Shutdown::Both);
}
