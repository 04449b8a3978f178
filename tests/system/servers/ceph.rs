//! Ceph: S3 by its object gateway, with one monitor and one store in memory.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use super::{Process, S3, curl, free_port};
use crate::system::harness::{Scratch, skip};

pub struct Ceph {
    s3: S3,
    _processes: [Process; 3],
    _dir: Scratch,
}

impl Ceph {
    /// The one that tests share; `None` if it is not installed.
    pub fn shared() -> Option<&'static S3> {
        static SHARED: LazyLock<Option<Ceph>> = LazyLock::new(Ceph::start);
        SHARED.as_ref().map(|ceph| &ceph.s3)
    }

    fn start() -> Option<Self> {
        let is_there = |program: &&str| {
            let version = Command::new(program).arg("--version").stdout(Stdio::null()).status();
            version.is_ok_and(|status| status.success())
        };
        if !["radosgw", "ceph-mon", "ceph-osd"].iter().all(is_there) {
            skip("Ceph", ".ci/setup stores");
            return None;
        }
        let scratch = Scratch::new();
        let dir = scratch.path();
        let (monitor, gateway) = (free_port(), free_port());
        let (cluster, store) = ("00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002");
        std::fs::write(dir.join("ceph.conf"), configuration(dir, cluster, monitor, gateway)).unwrap();
        for folder in ["mon", "osd", "rgw"] {
            std::fs::create_dir(dir.join(folder)).unwrap();
        }

        let keys = "ceph-authtool keyring --gen-key -n";
        run(dir, &format!("{keys} mon. --create-keyring --cap mon allow+*"));
        run(dir, &format!("{keys} client.admin --cap mon allow+* --cap osd allow+*"));
        run(dir, &format!("{keys} client.rgw --cap mon allow+rw --cap osd allow+rwx"));
        run(dir, &format!("{keys} osd.0 --cap mon allow+profile+osd --cap mgr allow+profile+osd --cap osd allow+*"));
        run(dir, &format!("monmaptool --create --fsid {cluster} --addv a [v2:127.0.0.1:{monitor}] monmap"));
        run(dir, "ceph-mon --mkfs -i a --monmap monmap --keyring keyring");
        let process = |name: &str, args: &str| {
            let process = Process::new(name, name, dir).args(args.split(' '));
            process.env("CEPH_CONF", dir.join("ceph.conf").display())
        };
        let mut monitor = process("ceph-mon", "-f -i a");
        // What speaks to it waits for it.
        monitor.start(|| true);
        let secret = run(dir, "ceph-authtool keyring --print-key -n osd.0");
        std::fs::write(dir.join("secrets"), format!("{{\"cephx_secret\": \"{}\"}}", secret.trim())).unwrap();
        run(dir, &format!("ceph osd new {store} -i secrets"));
        run(dir, &format!("ceph-osd --mkfs -i 0 --osd-uuid {store}"));
        let mut osd = process("ceph-osd", "-f -i 0");
        osd.start(|| true);
        let mut radosgw = process("radosgw", "-f -n client.rgw");
        let s3 = S3 {
            endpoint: format!("http://127.0.0.1:{gateway}"),
            region: "us-east-1".to_owned(),
            access_key: "AKIACEPH000000000000".to_owned(),
            secret_key: "ceph-secret-key".to_owned(),
            session_token: None,
            ca: None,
        };
        radosgw.start(|| curl::<&str>("GET", &s3.endpoint, [], b"").status == 200);
        let keys = format!("--access-key={} --secret-key={}", s3.access_key, s3.secret_key);
        run(dir, &format!("radosgw-admin user create --uid=test --display-name=test {keys}"));
        Some(Self { s3, _processes: [radosgw, osd, monitor], _dir: scratch })
    }
}

/// Runs a command of Ceph to its end, and returns what it says. A `+` is a space inside an argument.
fn run(dir: &Path, command: &str) -> String {
    let mut words = command.split(' ').map(|word| word.replace('+', " "));
    let mut program = Command::new(words.next().unwrap());
    program.args(words).current_dir(dir).env("CEPH_CONF", dir.join("ceph.conf")).stdin(Stdio::null());
    let output = program.output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn configuration(dir: &Path, cluster: &str, monitor: u16, gateway: u16) -> String {
    let dir = dir.display();
    format!(
        "[global]
fsid = {cluster}
mon host = [v2:127.0.0.1:{monitor}]
mon initial members = a
public addr = 127.0.0.1
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
run dir = {dir}
admin socket =
keyring = {dir}/keyring
log to file = false
log to stderr = true
# One store is enough.
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 2000
# The monitor answers each change of the pools at once: 2 seconds to start, not 12.
paxos propose interval = 0.05
paxos min wait = 0.01
mon data = {dir}/mon
mon data avail crit = 1
osd data = {dir}/osd
osd objectstore = memstore
memstore device bytes = 4294967296
[client.rgw]
rgw data = {dir}/rgw
rgw frontends = beast endpoint=127.0.0.1:{gateway}
"
    )
}

#[test]
fn ceph_serves_s3() {
    let Some(s3) = Ceph::shared() else { return };
    super::serves_s3(s3);
}
