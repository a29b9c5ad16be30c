//! The words of messages about the host of a request.

use crate::codec::authority::HostFault;

pub(super) fn host_fault(fault: HostFault) -> &'static str {
    match fault {
        HostFault::Missing => "The request has no Host.",
        HostFault::Several => "The request has more than one Host.",
        HostFault::Invalid => "The request's Host is not a name or an address with a port.",
        HostFault::Differing => "The request's target and its Host name different hosts.",
    }
}

/// The entries for the configuration's list of hosts. A service of Kubernetes has four names, of
/// which its clients may use any.
pub(super) fn hosts_to_write(host: &str) -> String {
    let labels: Vec<_> = host.split('.').collect();
    match labels[..] {
        [name, namespace, "svc"] | [name, namespace, "svc", "cluster", "local"] => {
            let pair = format!("{name}.{namespace}");
            format!("{:?}", [name, &pair, &format!("{pair}.svc"), &format!("{pair}.svc.cluster.local")])
        }
        _ => format!("{:?}", [host]),
    }
}

#[cfg(test)]
mod tests {
    use crate::record::error::{Error, Kind};

    #[test]
    fn foreign_host_message_has_the_line_to_write() {
        for (host, line) in [
            ("host.docker.internal", r#"hosts = ["host.docker.internal"] in [server]"#),
            (
                "gauge.llm.svc.cluster.local",
                r#"hosts = ["gauge", "gauge.llm", "gauge.llm.svc", "gauge.llm.svc.cluster.local"] in [server]"#,
            ),
        ] {
            let message = Error::from(Kind::HostNotAllowed(host.to_owned())).to_string();
            assert!(message.contains(line), "{message}");
        }
    }
}
