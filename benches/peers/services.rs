//! The simulated service behind the proxies.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rcgen::{CertificateParams, KeyPair};

use super::process::{LOAD_CORE, Running, free_port};
use super::workloads::Service;

/// The simulated service, in the clear and through TLS.
pub(crate) struct Services {
    plain: u16,
    tls: u16,
    pub(crate) ca: PathBuf,
    _running: [Running; 2],
}

impl Services {
    pub(crate) fn start(folder: &Path) -> Self {
        let (ca, key) = (folder.join("service.crt"), folder.join("service.key"));
        let pair = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&pair).unwrap();
        fs::write(&ca, certificate.pem()).unwrap();
        fs::write(&key, pair.serialize_pem()).unwrap();
        let (plain, tls) = (free_port(), free_port());
        let simulate = |port: u16, more: &[&Path]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_streamgauge"));
            command.args(["simulate", "--workers", "1", "--listen", &format!("127.0.0.1:{port}")]);
            if let [certificate, key] = more {
                command.arg("--certificate").arg(certificate).arg("--private-key").arg(key);
            }
            Running::start(LOAD_CORE, &command, port).unwrap()
        };
        let _running = [simulate(plain, &[]), simulate(tls, &[&ca, &key])];
        Self { plain, tls, ca, _running }
    }

    pub(crate) fn port(&self, service: Service) -> u16 {
        if service == Service::Plain { self.plain } else { self.tls }
    }
}
