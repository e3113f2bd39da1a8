//! The image server.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// nginx with TLS, as fast as a good uplink and no faster: then what it sent is what arrived.
///
/// Its files are in `directory`; it serves those of `served`, `rate` KiB a second of each.
pub(crate) fn nginx(directory: &Path, served: &Path, rate: u32) -> (Child, u16) {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate =
        rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    fs::write(directory.join("ca.pem"), certificate.pem()).unwrap();
    fs::write(directory.join("key.pem"), key.serialize_pem()).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let d = directory.display();
    let config = format!(
        "daemon off; master_process off; pid {d}/nginx.pid; error_log {d}/error.log; user root;\n\
         events {{}}\nhttp {{\n log_format requests '$request_uri|$http_range|$body_bytes_sent';\n\
         access_log {d}/access.log requests;\n limit_rate {rate}k;\n\
         client_body_temp_path {d}/t1; proxy_temp_path {d}/t2; fastcgi_temp_path {d}/t3; uwsgi_temp_path {d}/t4; scgi_temp_path {d}/t5;\n\
         server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {d}/ca.pem; ssl_certificate_key {d}/key.pem; root {}; }}\n}}\n",
        served.display()
    );
    fs::write(directory.join("nginx.conf"), config).unwrap();
    let server = Command::new("nginx")
        .arg("-e")
        .arg(directory.join("error.log"))
        .arg("-c")
        .arg(directory.join("nginx.conf"))
        .stdin(Stdio::null())
        .spawn()
        .expect("nginx is installed by tests/run peers");
    let deadline = Instant::now() + Duration::from_secs(10);
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < deadline, "nginx does not listen");
    }
    (server, port)
}

/// How many connections of this server's are open, as the kernel has it: what is closed has its line in the log.
pub(crate) fn connections(port: u16) -> usize {
    // The states LISTEN and TIME_WAIT are no connections of anybody's.
    let is_open = |line: &&str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words[1].ends_with(&format!(":{port:04X}")) && !["0A", "06"].contains(&words[3])
    };
    fs::read_to_string("/proc/net/tcp").unwrap().lines().skip(1).filter(is_open).count()
}
