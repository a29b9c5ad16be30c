//! Peers that are third-party programs: nginx and squid, each in a directory of its own.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;

use tempfile::TempDir;

use super::{Identities, OUT, PASSWORD, Peers, USER};
use crate::harness::PATIENCE;

impl Peers {
    /// nginx as all targets, squid as all proxies.
    pub fn programs(who: &Identities) -> Self {
        let (nginx, targets) = start("nginx", |folder, ports| nginx(who, folder, ports));
        let (squid, proxies) = start("squid", |folder, ports| squid(who, folder, ports));
        Self { targets, proxies, _alive: vec![Box::new((nginx, squid))] }
    }
}

/// A program that runs until this is dropped.
struct Program {
    child: Child,
    _folder: TempDir,
}

impl Drop for Program {
    fn drop(&mut self) {
        // The program may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The command, and the text by which it reports its readiness, with the number of its repetitions.
struct Plan {
    arguments: Vec<String>,
    ready: (&'static str, usize),
}

/// The number of starts before a program is given up: another program may take a port between
/// finding and using it.
const ATTEMPTS: usize = 3;

/// Starts it on three free ports and waits until it is ready.
fn start(name: &str, plan: impl Fn(&Path, [u16; 3]) -> Plan) -> (Program, [SocketAddr; 3]) {
    let mut said = String::new();
    for _ in 0..ATTEMPTS {
        let folder = tempfile::tempdir().unwrap();
        // squid, if started by root, changes its user before it reads its files.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let addresses = listeners.each_ref().map(|listener| listener.local_addr().unwrap());
        drop(listeners);
        let plan = plan(folder.path(), addresses.map(|address| address.port()));
        match run(name, &plan) {
            Ok(child) => return (Program { child, _folder: folder }, addresses),
            Err(reason) => said = reason,
        }
    }
    panic!("{name} does not start: {said}");
}

fn run(name: &str, plan: &Plan) -> Result<Child, String> {
    let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
    let mut child = Command::new(name)
        .args(&plan.arguments)
        .env("PATH", path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{name}: {error}; tests/run installs it"));
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        // To the end, so that further output does not fill the pipe.
        let mut line = Vec::new();
        while stderr.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            // The test may have got what it waits for.
            let _ = tell.send(String::from_utf8_lossy(&line).into_owned());
            line.clear();
        }
    });
    let (mut said, mut times) = (String::new(), 0);
    while times < plan.ready.1 {
        match told.recv_timeout(PATIENCE) {
            Ok(line) => {
                times += usize::from(line.contains(plan.ready.0));
                said += &line;
            }
            Err(_) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(said);
            }
        }
    }
    Ok(child)
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// One process without a master: the user stays the same.
fn nginx(who: &Identities, folder: &Path, [plain, open, closed]: [u16; 3]) -> Plan {
    let here = folder.display();
    let certificate = write(folder, "up.crt", &who.target.certificate);
    let key = write(folder, "up.key", &who.target.key);
    let ca = who.folder.path("ca.crt").display().to_string();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {here}/{kind};\n"))
        .concat();
    let response = "location / { return 200 \"$remote_addr $ssl_client_s_dn $ssl_client_serial\"; }";
    let config = format!(
        "daemon off; master_process off; pid {here}/pid; error_log stderr notice;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\naccess_log off; default_type text/plain;\n{temporary}\
         ssl_certificate {certificate}; ssl_certificate_key {key}; ssl_client_certificate {ca};\n\
         server {{ listen 127.0.0.1:{plain}; {response} }}\n\
         server {{ listen 127.0.0.1:{open} ssl http2; {response} }}\n\
         server {{ listen 127.0.0.1:{closed} ssl http2; ssl_verify_client on; {response} }}\n}}\n"
    );
    let config = write(folder, "nginx.conf", &config);
    let arguments = ["-e", "stderr", "-p", &here.to_string(), "-c", &config].map(str::to_owned).to_vec();
    // Logged when it has bound all its addresses.
    Plan { arguments, ready: ("using the \"epoll\" event method", 1) }
}

fn squid(who: &Identities, folder: &Path, [plain, secure, known]: [u16; 3]) -> Plan {
    let pair = format!("{}{}", who.proxy.certificate, who.proxy.key);
    let pair = write(folder, "proxy.pem", &pair);
    let hash = Command::new("openssl").args(["passwd", "-apr1", PASSWORD]).output().unwrap().stdout;
    let users = write(folder, "users", &format!("{USER}:{}", String::from_utf8(hash).unwrap()));
    let [from_plain, from_secure, from_known] = OUT;
    let config = format!(
        "http_port 127.0.0.1:{plain} name=plain\n\
         https_port 127.0.0.1:{secure} name=secure tls-cert={pair}\n\
         http_port 127.0.0.1:{known} name=known\n\
         acl secure myportname secure\nacl known myportname known\n\
         auth_param basic program /usr/lib/squid/basic_ncsa_auth {users}\nauth_param basic children 1\n\
         acl user proxy_auth REQUIRED\nhttp_access deny known !user\nhttp_access allow all\n\
         tcp_outgoing_address {from_known} known\ntcp_outgoing_address {from_secure} secure\n\
         tcp_outgoing_address {from_plain}\n\
         dns_nameservers 127.0.0.1\npid_filename none\ncache deny all\ncache_mem 1 MB\naccess_log none\n\
         cache_log /dev/null\ncoredump_dir {here}\nshutdown_lifetime 0 seconds\npinger_enable off\n\
         max_filedescriptors 1024\n",
        here = folder.display()
    );
    let config = write(folder, "squid.conf", &config);
    let arguments = ["-N", "-d", "1", "-f", &config].map(str::to_owned).to_vec();
    Plan { arguments, ready: ("Accepting", 3) }
}
