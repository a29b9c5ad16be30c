//! A real PostgreSQL server for tests, with a database of its own, on loopback. It ends when it is
//! dropped.
//!
//! The programs are Debian's `postgresql`, which `tests/run` installs. The server refuses to run as
//! root, and then runs as the user `postgres` or `nobody`.

#![allow(dead_code, reason = "not every test needs all of it")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(missing_docs, unreachable_pub, reason = "this is the library of several tests")]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Long enough for any machine; no test should take it.
const PATIENCE: Duration = Duration::from_secs(60);

/// The owner of the database. It must be encoded in a URL.
pub const USER: &str = "streamgauge";
pub const PASSWORD: &str = "db p@ss/word#1";
pub const PASSWORD_ENCODED: &str = "db%20p%40ss%2Fword%231";

/// A server, running or stopped.
pub struct Server {
    folder: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
}

impl Server {
    /// Makes a database cluster and starts the server.
    pub fn start() -> Self {
        Self::start_with(&[], &[])
    }

    /// Starts a server with further settings (`name=value`), and with these files in its directory.
    pub fn start_with(settings: &[&str], files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let home = folder.path().join("home");
        fs::create_dir(&home).unwrap();
        fs::write(home.join("password"), PASSWORD).unwrap();
        if let Some(user) = other_user() {
            for path in [&home, &home.join("password")] {
                chown(path, Some(id(user)), None).unwrap();
            }
        }
        let output = program("initdb")
            .args(["--no-sync", "--encoding=UTF8", "--locale=C", "--auth=scram-sha-256"])
            .args([format!("--username={USER}"), format!("--pwfile={}", home.join("password").display())])
            .arg(home.join("data"))
            .current_dir(&home)
            .output()
            .unwrap();
        assert!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut conf = format!(
            "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{}'\nfsync = off\n\
             max_connections = 40\n",
            home.display()
        );
        for setting in settings {
            let (name, value) = setting.split_once('=').unwrap();
            conf += &format!("{name} = '{value}'\n");
        }
        fs::write(home.join("data/postgresql.auto.conf"), conf).unwrap();
        for (name, content) in files {
            let path = home.join("data").join(name);
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            if let Some(user) = other_user() {
                chown(&path, Some(id(user)), None).unwrap();
            }
        }
        let mut server = Self { folder, port, child: None };
        server.resume();
        server.sql_in("postgres", "CREATE DATABASE usage");
        server
    }

    /// Starts it again on the same port, and waits until it accepts connections.
    pub fn resume(&mut self) {
        assert!(self.child.is_none());
        let home = self.home();
        let log = fs::File::options().create(true).append(true).open(home.join("log")).unwrap();
        let child = program("postgres")
            .arg("-D")
            .arg(home.join("data"))
            .current_dir(&home)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        let start = Instant::now();
        while self.query("postgres", "SELECT 1").is_err() {
            assert!(start.elapsed() < PATIENCE, "the server does not start: {}", self.log());
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Stops it with SIGINT, which ends sessions immediately.
    pub fn stop(&mut self) {
        self.end("-INT");
    }

    /// Kills it with all its processes, like a machine failure.
    pub fn kill(&mut self) {
        self.end("-KILL");
    }

    /// Stops it from responding and from ending anything, until [`Self::thaw`].
    pub fn freeze(&self) {
        self.signal_all("-STOP");
    }

    /// Continues.
    pub fn thaw(&self) {
        self.signal_all("-CONT");
    }

    /// The URL of the database `usage`, with the password.
    pub fn url(&self) -> String {
        self.url_of(USER, PASSWORD_ENCODED)
    }

    pub fn url_of(&self, user: &str, password: &str) -> String {
        format!("postgres://{user}:{password}@127.0.0.1:{}/usage", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Runs statements in the database `usage`; fields of rows are separated by `|`.
    pub fn sql(&self, sql: &str) -> String {
        self.sql_in("usage", sql)
    }

    /// A number from a query.
    pub fn number(&self, sql: &str) -> u64 {
        self.sql(sql).parse().unwrap()
    }

    pub fn sql_in(&self, database: &str, sql: &str) -> String {
        self.query(database, sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// The server's log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.home().join("log")).unwrap_or_default()
    }

    fn query(&self, database: &str, sql: &str) -> Result<String, String> {
        let Output { status, stdout, stderr } = Command::new(bin().join("psql"))
            .args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", USER])
            .args(["-p", &self.port.to_string(), "-d", database, "-c", sql])
            .env("PGPASSWORD", PASSWORD)
            .env("PGCONNECT_TIMEOUT", "5")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        if status.success() {
            Ok(String::from_utf8(stdout).unwrap().trim_end().to_owned())
        } else {
            Err(String::from_utf8_lossy(&stderr).into_owned())
        }
    }

    fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    fn end(&mut self, signal: &str) {
        let Some(mut child) = self.child.take() else { return };
        let pid = child.id().to_string();
        if signal == "-KILL" {
            // The first one to end is the one that would start others again.
            kill(signal, &pid);
            let _ = child.wait();
            for pid in self.processes() {
                kill(signal, &pid);
            }
            let _ = fs::remove_file(self.home().join("data/postmaster.pid"));
        } else {
            kill(signal, &pid);
            let _ = child.wait();
        }
        let start = Instant::now();
        while !self.processes().is_empty() {
            assert!(start.elapsed() < PATIENCE, "the server does not end");
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn signal_all(&self, signal: &str) {
        for pid in self.processes() {
            kill(signal, &pid);
        }
    }

    /// All of its processes: those that run in its directory.
    fn processes(&self) -> Vec<String> {
        let data = self.home().join("data");
        let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let entry = entry.ok()?;
            let pid = entry.file_name().into_string().ok()?;
            let is_its = pid.bytes().all(|byte| byte.is_ascii_digit())
                && fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == data);
            is_its.then_some(pid)
        });
        processes.collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.thaw();
            self.end("-QUIT");
        }
    }
}

fn kill(signal: &str, pid: &str) {
    // The process may have ended already.
    let _ = Command::new("kill").args([signal, pid]).stderr(Stdio::null()).status();
}

/// One of the server's programs, as a user that it accepts. It does not outlive this process.
fn program(name: &str) -> Command {
    let mut command = Command::new("setpriv");
    if let Some(user) = other_user() {
        let id = id(user);
        command.args(["--clear-groups", &format!("--regid={id}"), &format!("--reuid={id}")]);
    }
    command.args(["--pdeathsig", "QUIT", "--"]).arg(bin().join(name)).env_clear();
    command
}

/// The directory of the programs: the newest installed version.
fn bin() -> PathBuf {
    let folders = fs::read_dir("/usr/lib/postgresql").map(|folders| {
        let version = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
        let folders = folders.filter_map(|folder| Some(folder.ok()?.path()));
        let folders = folders.filter(|folder| folder.join("bin/initdb").exists());
        folders.max_by_key(|folder| version(folder)).map(|folder| folder.join("bin"))
    });
    folders
        .ok()
        .flatten()
        .expect("PostgreSQL is not installed: `apt-get install postgresql`, as tests/run does it")
}

/// The user as which root runs the server.
fn other_user() -> Option<&'static str> {
    let id = |arguments: &[&str]| Command::new("id").args(arguments).output().unwrap();
    if id(&["-u"]).stdout != b"0\n" {
        return None;
    }
    Some(if id(&["-u", "postgres"]).status.success() { "postgres" } else { "nobody" })
}

fn id(user: &str) -> u32 {
    let output = Command::new("id").args(["-u", user]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}
