//! A real OpenTelemetry collector for tests, with a backend behind it that receives its output. It
//! ends when it is dropped.
//!
//! The collector is Rotel, which `tests/run` installs. It parses its input, and forwards the parsed
//! records.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(unreachable_pub, reason = "this is the tests' own library")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::metrics::v1::HistogramDataPoint;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

use super::{PATIENCE, Request, Upstream, sized, upstream};

/// The destination of exports, which passes each of them to the test.
pub struct Backend {
    pub upstream: Upstream,
    exports: Receiver<Request>,
}

impl Backend {
    /// A backend that accepts everything.
    pub fn new() -> Self {
        Self::responding(|_| sized("200 OK", "application/x-protobuf", b""))
    }

    /// A backend with this response to each export, counted from 0.
    pub fn responding(response: impl Fn(usize) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let (sender, exports) = mpsc::channel();
        let count = std::sync::atomic::AtomicUsize::new(0);
        let upstream = upstream(move |connection| {
            while let Some(request) = connection.request() {
                let number = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                // The test may be over.
                let _ = sender.send(request);
                connection.send(response(number));
            }
        });
        Self { upstream, exports }
    }

    pub fn address(&self) -> SocketAddr {
        self.upstream.address
    }

    /// The next export.
    pub fn export(&self) -> Request {
        self.exports.recv_timeout(PATIENCE).expect("an export")
    }

    /// The exports that have arrived and were not returned yet.
    pub fn exports(&self) -> Vec<Request> {
        self.exports.try_iter().collect()
    }

    /// The spans and metrics that arrive, up to this many spans and the metrics of the process's
    /// end.
    pub fn all(&self, spans: usize) -> Exported {
        let mut exported = Exported::default();
        while exported.spans.len() < spans || exported.points.is_empty() {
            exported.add(&self.export());
        }
        exported
    }
}

/// The exported data.
#[derive(Debug, Default)]
pub struct Exported {
    pub resource: BTreeMap<String, String>,
    pub spans: Vec<Span>,
    /// The points of the last export, by their metric.
    pub points: Vec<(String, HistogramDataPoint)>,
}

impl Exported {
    pub fn of(requests: &[Request]) -> Self {
        let mut exported = Self::default();
        requests.iter().for_each(|request| exported.add(request));
        exported
    }

    fn add(&mut self, request: &Request) {
        assert_eq!(request.header("content-type"), Some("application/x-protobuf"));
        let body = match request.header("content-encoding") {
            Some("gzip") => {
                let mut body = Vec::new();
                flate2::read::GzDecoder::new(&request.body[..]).read_to_end(&mut body).unwrap();
                body
            }
            other => {
                assert_eq!(other, None);
                request.body.clone()
            }
        };
        if request.line().starts_with("POST /v1/traces ") {
            for spans in ExportTraceServiceRequest::decode(&body[..]).unwrap().resource_spans {
                self.resource = attributes(&spans.resource.unwrap().attributes);
                self.spans.extend(spans.scope_spans.into_iter().flat_map(|scope| scope.spans));
            }
        } else {
            assert!(request.line().starts_with("POST /v1/metrics "), "{}", request.line());
            self.points.clear();
            let metrics = ExportMetricsServiceRequest::decode(&body[..]).unwrap().resource_metrics;
            let metrics = metrics.into_iter().flat_map(|metrics| metrics.scope_metrics);
            for metric in metrics.flat_map(|scope| scope.metrics) {
                let Some(Data::Histogram(histogram)) = metric.data else { panic!("{metric:?}") };
                assert_eq!(histogram.aggregation_temporality, 2, "counted since the start");
                let points = histogram.data_points.into_iter();
                self.points.extend(points.map(|point| (metric.name.clone(), point)));
            }
        }
    }

    /// The sum of a metric's counts and of its values, over all points with this attribute.
    pub fn sum(&self, metric: &str, name: &str, value: &str) -> (u64, f64) {
        let points = self.points.iter().filter(|(found, _)| found == metric).map(|(_, point)| point);
        let points =
            points.filter(|point| attributes(&point.attributes).get(name).is_some_and(|is| is == value));
        points.fold((0, 0.0), |(count, sum), point| (count + point.count, sum + point.sum.unwrap()))
    }
}

/// Attributes by their names.
pub fn attributes(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |attribute: &KeyValue| match attribute.value.clone().unwrap().value.unwrap() {
        Value::StringValue(text) => text,
        Value::IntValue(number) => number.to_string(),
        Value::DoubleValue(number) => number.to_string(),
        Value::BoolValue(flag) => flag.to_string(),
        other => panic!("{other:?}"),
    };
    attributes.iter().map(|attribute| (attribute.key.clone(), text(attribute))).collect()
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A collector in front of a backend.
pub struct Collector {
    pub backend: Backend,
    port: u16,
    child: Child,
}

impl Collector {
    /// Starts a collector, and waits until it accepts connections.
    pub fn start() -> Self {
        let backend = Backend::new();
        let start = Instant::now();
        loop {
            let free = || TcpListener::bind("127.0.0.1:0").unwrap();
            let (http, grpc) = (free(), free());
            let [port, grpc_port] = [&http, &grpc].map(|socket| socket.local_addr().unwrap().port());
            drop((http, grpc));
            let mut child = spawn(backend.address(), port, grpc_port);
            while TcpStream::connect(("127.0.0.1", port)).is_err() && child.try_wait().unwrap().is_none() {
                assert!(start.elapsed() < PATIENCE, "the collector does not start");
                thread::sleep(Duration::from_millis(20));
            }
            // The collector ends if another program has taken one of its ports.
            if child.try_wait().unwrap().is_none() {
                return Self { backend, port, child };
            }
        }
    }

    /// The endpoint for OTLP over HTTP.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(backend: SocketAddr, port: u16, grpc_port: u16) -> Child {
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--"])
        .arg(program())
        .args(["start", "--disable-batching", "--exporter", "otlp", "--otlp-exporter-protocol", "http"])
        .args(["--otlp-exporter-endpoint", &format!("http://{backend}")])
        .args(["--otlp-http-endpoint", &format!("127.0.0.1:{port}")])
        .args(["--otlp-grpc-endpoint", &format!("127.0.0.1:{grpc_port}")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn program() -> PathBuf {
    let lib = concat!(env!("CARGO_MANIFEST_DIR"), "/target/otlp/venv/lib");
    let versions = fs::read_dir(lib).into_iter().flatten();
    let mut programs =
        versions.map(|version| version.unwrap().path().join("site-packages/rotel/rotel-agent"));
    programs
        .find(|program| program.exists())
        .expect("Rotel is not installed: run tests/run, or what it does in `otlp_python`")
}
