//! A network whose links go through proxies that can be cut.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use super::network::ready;
use super::{Home, finish, signal};

/// What a proxy does with what comes.
#[derive(Debug, Default)]
struct Wire {
    /// Nothing passes, and nobody is told.
    dark: AtomicBool,
    /// Connections end, and new ones too.
    cut: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

/// The way to one stage.
#[derive(Debug, Clone)]
pub struct Proxy {
    wire: Arc<Wire>,
    pub address: String,
}

impl Proxy {
    /// In front of `target`; its threads end with the test's process.
    fn start(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let wire = Arc::new(Wire::default());
        let proxy = Self {
            wire: Arc::clone(&wire),
            address,
        };
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                let Ok(onward) = TcpStream::connect(&target) else {
                    continue;
                };
                if wire.cut.load(Ordering::SeqCst) {
                    continue;
                }
                let both = [(&stream, &onward), (&onward, &stream)];
                for (from, to) in both {
                    let (from, to) = (from.try_clone(), to.try_clone());
                    let (from, to) = (from.expect("cloned"), to.expect("cloned"));
                    let wire = Arc::clone(&wire);
                    thread::spawn(move || carry(from, to, &wire));
                }
                let mut open = wire.open.lock().expect("no holder panics");
                open.push(stream);
                open.push(onward);
            }
        });
        proxy
    }

    /// Ends all connections and refuses new ones.
    pub fn cut(&self) {
        self.wire.cut.store(true, Ordering::SeqCst);
        for stream in self.wire.open.lock().expect("no holder panics").drain(..) {
            // It may have ended by itself.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Lets nothing through, without a word.
    pub fn darken(&self) {
        self.wire.dark.store(true, Ordering::SeqCst);
    }

    /// All is well again, for new connections.
    pub fn mend(&self) {
        self.cut();
        self.wire.dark.store(false, Ordering::SeqCst);
        self.wire.cut.store(false, Ordering::SeqCst);
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, wire: &Wire) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        // What comes in the dark is lost.
        if !wire.dark.load(Ordering::SeqCst) && to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

/// Stages behind proxies, and a gateway.
pub struct Cut {
    nodes: Vec<Child>,
    pub proxies: Vec<Proxy>,
    pub address: String,
}

impl Cut {
    /// `slices` times `replicas` stages of a split model of `layers` layers.
    pub fn start(home: &Home, model: &str, (layers, slices, replicas): (u32, u32, u32)) -> Self {
        let mut stages = Vec::new();
        let mut nodes = Vec::new();
        let mut proxies = Vec::new();
        let ports: Vec<_> = (0..slices * replicas)
            .map(|_| TcpListener::bind("127.0.0.1:0").expect("a port"))
            .collect();
        let targets: Vec<String> = ports
            .iter()
            .map(|port| port.local_addr().expect("an address").to_string())
            .collect();
        drop(ports);
        let common = format!(
            "[model]\npath = {model:?}\nname = \"m\"\n[engine]\nthreads = 1\nkv_memory = \"8MiB\"\n[node]\nsilence = \"1s\"\n"
        );
        // Keys first: each stage is told who the others are.
        for (index, target) in targets.iter().enumerate() {
            let seed = format!("{:064x}", index + 1);
            let key = home.path(&format!("node{index}.key"));
            private(&key, &seed);
            let slice = index as u32 / replicas;
            let (first, end) = (layers * slice / slices, layers * (slice + 1) / slices);
            let proxy = Proxy::start(target.clone());
            let node = node_id(home, &key, &common);
            stages.push((
                format!("{first}-{}", end - 1),
                node,
                proxy.address.clone(),
                key,
            ));
            proxies.push(proxy);
        }
        let list: Vec<String> = stages
            .iter()
            .map(|(layers, node, address, _)| format!("\"{layers}@{node}@{address}\""))
            .collect();
        let network = format!(
            "[network]\nkv_tokens = 4096\nstages = [{}]\n",
            list.join(", ")
        );
        for (target, (layers, _, _, key)) in targets.iter().zip(&stages) {
            let config = format!(
                "{common}roles = [\"stage\"]\nlisten = {target:?}\nkey_file = {key:?}\n[stage]\nlayers = {layers:?}\n{network}"
            );
            nodes.push(start(home, key, &config));
        }
        let config = format!("{common}\n[gateway]\nlisten = \"127.0.0.1:0\"\n{network}");
        let mut gateway = start(home, &home.path("gateway"), &config);
        let address = ready(&mut gateway).expect("ready");
        nodes.push(gateway);
        Self {
            nodes,
            proxies,
            address,
        }
    }

    pub fn stop(self) {
        for node in self.nodes.into_iter().rev() {
            signal(&node, "TERM");
            assert_eq!(finish(node).code, 0);
        }
    }
}

pub fn private(path: &str, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::write(path, text).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("set");
}

pub fn start(home: &Home, name: &str, config: &str) -> Child {
    let file = format!("{name}.toml");
    fs::write(&file, config).expect("written");
    let err = fs::File::create(format!("{name}.err")).expect("a file");
    let mut command = home.command(&["--config", &file, "node"]);
    command.stdin(Stdio::null()).stderr(err);
    command.spawn().expect("the binary starts")
}

/// The id of a key, as a stage that listens nowhere for long says it.
fn node_id(home: &Home, key: &str, common: &str) -> String {
    let config = format!(
        "{common}roles = [\"stage\"]\nlisten = \"127.0.0.1:0\"\nkey_file = {key:?}\n[stage]\nlayers = \"0-0\"\n"
    );
    let mut child = start(home, key, &config);
    let mut line = String::new();
    let out = child.stdout.as_mut().expect("a pipe");
    BufReader::new(out)
        .read_line(&mut line)
        .expect("it says it");
    signal(&child, "KILL");
    finish(child);
    let node = line.trim().strip_prefix("node ");
    node.unwrap_or_else(|| panic!("it said {line:?}"))
        .to_owned()
}
