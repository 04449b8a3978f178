//! `Dockerfile` and `docker-compose.yml` where there is no container engine: the steps of the image are done in an
//! overlay over this machine's own files, and each service runs as in a container: process 1 of namespaces of its own,
//! under its name and address, as the image's user, with its volumes, its command and its health check as they stand.
//!
//! What this cannot see is what the base images hold. Packages are not installed and nothing is compiled: apt only
//! simulates, Cargo only plans, and the binary is the one under test.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use yaml_rust2::{Yaml, YamlLoader};

use super::harness::{HOLDFAST, PATIENCE, Scratch, eventually, files, skip};

const PROJECT: &str = env!("CARGO_MANIFEST_DIR");
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Not one that needs no quoting.
const PASSWORD: &str = r#"it's a \ "secret" $of ours"#;

/// Ends when its input does, and with it all that runs in its namespaces.
const HOST: &str = r#"
    mount -t tmpfs none /run
    mount -t tmpfs none "$1"
    ip link set lo up
    ip link add bridge type bridge
    ip link set bridge up
    echo ready
    read -r _ || true"#;

/// The network of a container: NAME ADDRESS.
const NETWORK: &str = r#"
    ip netns add "$1"
    ip link add "$1" type veth peer name eth0 netns "$1"
    ip link set "$1" master bridge up
    ip -n "$1" address add "$2/24" dev eth0
    ip -n "$1" link set eth0 up
    ip -n "$1" link set lo up"#;

/// A step of an image: LAYER FOLDER PATH COMMAND.
const STEP: &str = r#"
    mkdir -p "$1/upper" "$1/work" "$1/root"
    mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
    mount -t proc proc "$1/root/proc"
    mount --rbind /dev "$1/root/dev"
    mkdir -p "$1/root$2"
    chroot "$1/root" env --chdir="$2" "$3" sh -ec "$4"
    umount -R "$1/root""#;

/// Copies FROM TO, both outside of any container, as COPY does.
const COPY: &str = r#"
    case "$2" in */) mkdir -p "$2" ;; *) mkdir -p "$(dirname "$2")" ;; esac
    if [ -d "$1" ]; then mkdir -p "$2"; cp -r "$1/." "$2/"; else cp "$1" "$2"; fi"#;

/// A container: IMAGE LAYER HOSTS VOLUMES USER FOLDER COMMAND.... A line of VOLUMES is a folder here, a space and one in
/// the container. Those that are new take over what the image has there.
const CONTAINER: &str = r#"
    image=$1 layer=$2 hosts=$3 volumes=$4 user=$5 folder=$6
    shift 6
    mkdir -p "$layer/upper" "$layer/work" "$layer/root"
    root=$layer/root
    mount -t overlay overlay -o "lowerdir=$image:/,upperdir=$layer/upper,workdir=$layer/work" "$root"
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    printf '%s' "$hosts" > "$root/etc/hosts"
    printf '%s' "$volumes" | while read -r from to; do
        if [ ! -d "$from" ]; then
            mkdir -p "$from"
            cp -a "$root$to/." "$from"
        fi
        mount --bind "$from" "$root$to"
    done
    exec chroot --userspec="$user" "$root" env -i "$PATH_OF_IMAGE" --chdir="$folder" "$@""#;

/// The namespaces in which there are layers, networks and containers.
struct Host {
    child: Child,
    dir: PathBuf,
}

impl Host {
    fn start(scratch: &Scratch) -> Option<Self> {
        if !Command::new("unshare").args(["--net", "ip", "link"]).output().is_ok_and(|out| out.status.success()) {
            skip("root, namespaces of networks and ip", "apt-get install util-linux iproute2, and run as root");
            return None;
        }
        let dir = scratch.path().join("host");
        std::fs::create_dir(&dir).unwrap();
        let mut child = Command::new("unshare")
            .args(["--net", "--mount-proc", "--pid", "--fork", "--kill-child", "sh", "-euc", HOST, "sh"])
            .arg(&dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Some(Self { child, dir })
    }

    fn command(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={}", inmost(self.child.id()))).args(["--net", "--mount", "--pid"]);
        command
    }

    #[track_caller]
    fn script<T: AsRef<str>>(&self, script: &str, args: impl IntoIterator<Item = T>) {
        let mut command = self.command();
        command.args(["sh", "-euc", script, "sh"]);
        let output = command.args(args.into_iter().map(|arg| arg.as_ref().to_owned())).output().unwrap();
        assert!(output.status.success(), "{script}\n{}", said(&output));
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// The last of a row of processes of which each waits for the next.
fn inmost(mut pid: u32) -> u32 {
    while let Some(child) = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
        .ok()
        .and_then(|children| children.split_whitespace().next()?.parse().ok())
    {
        pid = child;
    }
    pid
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// What a Dockerfile makes.
#[derive(Clone, Default)]
struct Image {
    base: String,
    layer: PathBuf,
    user: String,
    folder: String,
    volumes: Vec<String>,
    ports: Vec<String>,
    health: Vec<String>,
    entrypoint: Vec<String>,
    command: Vec<String>,
}

impl Image {
    /// Does the steps of the project's Dockerfile.
    fn build(host: &Host, scratch: &Scratch) -> Self {
        let stubs = scratch.path().join("stubs");
        std::fs::create_dir(&stubs).unwrap();
        let stub = |name: &str, script: &str| {
            std::fs::write(stubs.join(name), format!("#!/bin/sh\nset -e\n{script}\n")).unwrap();
            std::fs::set_permissions(stubs.join(name), PermissionsExt::from_mode(0o755)).unwrap();
        };
        stub("apt-get", "[ \"$1\" = update ] || exec /usr/bin/apt-get --simulate \"$@\"");
        let plan = "\"$@\" --offline -Z unstable-options --unit-graph > /dev/null";
        let cargo = format!("env -u CARGO_TARGET_DIR RUSTC_BOOTSTRAP=1 '{}' {plan}", env!("CARGO"));
        stub("cargo", &format!("{cargo}\ninstall -Ds {HOLDFAST} target/release/holdfast"));
        let search = format!("PATH={}:{}", stubs.display(), std::env::var("PATH").unwrap());

        let mut stages: Vec<(String, Self)> = Vec::new();
        for (keyword, rest) in steps() {
            let words: Vec<_> = rest.split_whitespace().filter(|word| !word.starts_with("--")).collect();
            if keyword == "FROM" {
                let name = words.get(2).map_or("", |name| name).to_owned();
                let layer = host.dir.join(format!("stage{}", stages.len()));
                let base = words[0].to_owned();
                stages.push((name, Self { base, layer, user: "root".into(), folder: "/".into(), ..Self::default() }));
                continue;
            }
            let earlier: BTreeMap<_, _> =
                stages.iter().map(|(name, image)| (name.clone(), image.layer.join("upper"))).collect();
            let image = &mut stages.last_mut().unwrap().1;
            match keyword.as_str() {
                "RUN" => {
                    let command = rest.split_inclusive(' ').skip_while(|word| word.starts_with("--"));
                    let command: String = command.collect();
                    host.script(STEP, [path(&image.layer), &image.folder, &search, &command]);
                }
                "COPY" => {
                    let from = rest.split_whitespace().find_map(|word| word.strip_prefix("--from="));
                    let to = match words[1] {
                        "." => format!("{}/", image.folder),
                        to => to.to_owned(),
                    };
                    let to = format!("{}/upper{to}", image.layer.display());
                    match (from, words[0]) {
                        (Some(stage), file) => host.script(COPY, [format!("{}{file}", earlier[stage].display()), to]),
                        (None, ".") => context().iter().for_each(|entry| {
                            let name = entry.file_name().unwrap().to_str().unwrap();
                            host.script(COPY, [path(entry), &format!("{to}{name}")]);
                        }),
                        (None, file) => host.script(COPY, [format!("{PROJECT}/{file}"), to]),
                    }
                }
                "USER" => image.user = rest,
                "WORKDIR" => image.folder = rest,
                "VOLUME" => image.volumes = list(&rest),
                "EXPOSE" => image.ports = words.into_iter().map(str::to_owned).collect(),
                "HEALTHCHECK" => {
                    let (_, command) = rest.split_once("CMD ").unwrap();
                    image.health = ["sh", "-c", command].map(str::to_owned).to_vec();
                }
                "ENTRYPOINT" => image.entrypoint = list(&rest),
                "CMD" => image.command = list(&rest),
                other => panic!("not understood: {other} {rest}"),
            }
        }
        let (_, build) = &stages[0];
        let image = stages.last().unwrap().1.clone();
        let (_, version) = build.base.split_once("rust:").unwrap();
        let version: f64 = version.split('-').next().unwrap().parse().unwrap();
        assert!(version >= env!("CARGO_PKG_RUST_VERSION").parse().unwrap(), "{} is too old", build.base);
        // The binary is linked to the C library of the one, and runs with the other's.
        let release = |image: &Self| image.base.split(['-', ':']).find(|part| *part == "bookworm").map(str::to_owned);
        assert_eq!(release(build), release(&image));
        image
    }
}

/// The steps of the Dockerfile: a keyword, and the rest of it in one line.
fn steps() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(format!("{PROJECT}/Dockerfile")).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n").replace("\\\n", " ");
    let steps = lines.lines().filter(|line| !line.is_empty());
    steps.map(|line| line.split_once(' ').map(|(word, rest)| (word.into(), rest.trim().into())).unwrap()).collect()
}

/// A list in the Dockerfile: JSON, which is YAML.
fn list(text: &str) -> Vec<String> {
    texts(&YamlLoader::load_from_str(text).unwrap()[0])
}

/// What the build sees of the project.
fn context() -> Vec<PathBuf> {
    let ignored = std::fs::read_to_string(format!("{PROJECT}/.dockerignore")).unwrap();
    let ignored: Vec<_> = ignored.lines().map(|name| name.trim_end_matches('/')).collect();
    let entries = std::fs::read_dir(PROJECT).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|entry| !ignored.contains(&entry.file_name().unwrap().to_str().unwrap())).collect()
}

/// Of docker-compose.yml.
#[derive(Clone, Default)]
struct Service {
    image: String,
    command: Vec<String>,
    entrypoint: Option<Vec<String>>,
    environment: Vec<String>,
    volumes: Vec<(String, String)>,
    ports: Vec<String>,
    health: Option<Vec<String>>,
    patience: Duration,
    network_of: Option<String>,
    needs: Vec<String>,
}

/// The services, and the volumes that are declared.
fn composition() -> (BTreeMap<String, Service>, BTreeSet<String>) {
    let text = std::fs::read_to_string(format!("{PROJECT}/docker-compose.yml")).unwrap();
    let file = YamlLoader::load_from_str(&text).unwrap().remove(0);
    let keys = pairs(&file).into_keys().filter(|key| !key.starts_with("x-"));
    assert_eq!(keys.collect::<Vec<_>>(), ["services", "volumes"]);
    let services = pairs(&file["services"]).into_iter().map(|(name, service)| (name, Service::of(&service)));
    (services.collect(), pairs(&file["volumes"]).into_keys().collect())
}

impl Service {
    fn of(yaml: &Yaml) -> Self {
        let mut service = Self { patience: Duration::from_secs(10), ..Self::default() };
        for (key, value) in pairs(yaml) {
            match key.as_str() {
                "image" => service.image = text(&value),
                "build" => assert_eq!(text(&value), "."),
                "command" => service.command = texts(&value),
                "entrypoint" => service.entrypoint = Some(texts(&value)),
                "environment" => {
                    let pairs = pairs(&value).into_iter();
                    service.environment = pairs.map(|(name, value)| format!("{name}={}", text(&value))).collect();
                }
                "volumes" => {
                    let pair = |volume: &String| volume.split_once(':').map(|(from, to)| (from.into(), to.into()));
                    service.volumes = texts(&value).iter().map(|volume| pair(volume).unwrap()).collect();
                }
                "ports" => service.ports = texts(&value),
                "healthcheck" => {
                    let health = pairs(&value);
                    assert_eq!(health.keys().collect::<Vec<_>>(), ["interval", "retries", "test", "timeout"]);
                    let test = texts(&health["test"]);
                    assert_eq!(test[0], "CMD");
                    service.health = Some(test[1..].to_vec());
                }
                "restart" => assert_eq!(text(&value), "unless-stopped"),
                "stop_grace_period" => {
                    let seconds = text(&value).strip_suffix('s').unwrap().parse().unwrap();
                    service.patience = Duration::from_secs(seconds);
                }
                "network_mode" => {
                    service.network_of = Some(text(&value).strip_prefix("service:").unwrap().to_owned());
                }
                "depends_on" => {
                    let conditions = pairs(&value);
                    let healthy = |condition: &Yaml| text(&condition["condition"]) == "service_healthy";
                    assert!(conditions.values().all(healthy));
                    service.needs = conditions.into_keys().collect();
                }
                other => panic!("not understood: {other}"),
            }
        }
        service
    }
}

/// A mapping, with what is merged into it.
fn pairs(yaml: &Yaml) -> BTreeMap<String, Yaml> {
    let mapping = yaml.as_hash().unwrap();
    let mut pairs = mapping.get(&Yaml::String("<<".into())).map(pairs).unwrap_or_default();
    let own = mapping.iter().map(|(key, value)| (key.as_str().unwrap().to_owned(), value.clone()));
    pairs.extend(own.filter(|(key, _)| key != "<<"));
    pairs
}

fn texts(yaml: &Yaml) -> Vec<String> {
    yaml.as_vec().unwrap().iter().map(text).collect()
}

/// A scalar, with its variables replaced.
fn text(yaml: &Yaml) -> String {
    let text = yaml.as_str().map_or_else(|| yaml.as_i64().unwrap().to_string(), str::to_owned);
    let mut parts = text.split("$$");
    let replaced = |part: &str| match part.split_once("${HOLDFAST_ROOT_PASSWORD:?") {
        Some((before, rest)) => format!("{before}{PASSWORD}{}", rest.split_once('}').unwrap().1),
        None => {
            assert!(!part.contains('$'), "an unknown variable in: {part}");
            part.to_owned()
        }
    };
    let first = replaced(parts.next().unwrap());
    parts.fold(first, |text, part| text + "$" + &replaced(part))
}

/// A container that runs.
struct Container<'a> {
    name: &'a str,
    image: &'a Image,
    child: Child,
}

/// The containers of one image.
struct Engine<'a> {
    host: &'a Host,
    image: &'a Image,
    scratch: &'a Scratch,
    addresses: BTreeMap<&'a str, String>,
}

impl<'a> Engine<'a> {
    /// Gives each name an address. A composition that is made anew may get others.
    fn new(host: &'a Host, image: &'a Image, scratch: &'a Scratch, names: &[&'a str]) -> Self {
        let addresses: BTreeMap<_, _> =
            names.iter().enumerate().map(|(n, name)| (*name, format!("198.18.0.{}", n + 2))).collect();
        for (name, address) in &addresses {
            host.script(NETWORK, [name, address.as_str()]);
        }
        Self { host, image, scratch, addresses }
    }

    fn run(&self, name: &'a str, command: &[String], volumes: &[(String, String)]) -> Container<'a> {
        let others = self.addresses.iter().map(|(name, address)| format!("{address} {name}\n"));
        let hosts = format!("127.0.0.1 localhost\n{}", others.collect::<String>());
        let volume = |(from, to): &(String, String)| {
            assert!(self.image.volumes.contains(to), "not a volume of the image: {to}");
            format!("{} {to}\n", self.scratch.sub(&format!("volume-{from}")))
        };
        let log = std::fs::File::options().create(true).append(true).open(self.scratch.sub(&format!("{name}.log")));
        let child = self
            .host
            .command()
            .arg("nsenter")
            .arg(format!("--net=/run/netns/{name}"))
            .args(["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-euc", CONTAINER, "sh"])
            .arg(self.image.layer.join("upper"))
            .arg(self.host.dir.join(name))
            .arg(hosts)
            .arg(volumes.iter().map(volume).collect::<String>())
            .args([&self.image.user, &self.image.folder])
            .args(&self.image.entrypoint)
            .args(if command.is_empty() { &self.image.command } else { command })
            .env("PATH_OF_IMAGE", PATH)
            .stdin(Stdio::null())
            .stdout(log.as_ref().unwrap().try_clone().unwrap())
            .stderr(log.unwrap())
            .spawn()
            .unwrap();
        Container { name, image: self.image, child }
    }

    /// Runs a command where a container's network is, in this machine's own files, and waits for its end.
    fn beside(&self, name: &str, environment: &[String], command: &[String]) -> Output {
        let network = format!("--net=/run/netns/{name}");
        let mut beside = self.host.command();
        beside.args(["nsenter", &network, "env", "-i", PATH]).args(environment).args(command);
        beside.stdin(Stdio::null()).output().unwrap()
    }
}

impl Container<'_> {
    /// Runs a command in the container and waits for its end.
    fn exec<T: AsRef<str>>(&self, command: impl IntoIterator<Item = T>) -> Output {
        let mut exec = Command::new("nsenter");
        exec.arg(format!("--target={}", inmost(self.child.id()))).args(["--net", "--mount", "--pid", "--root"]);
        exec.args(["chroot", &format!("--userspec={}", self.image.user), "/", "env", "-i", PATH]);
        exec.args(command.into_iter().map(|word| word.as_ref().to_owned())).stdin(Stdio::null()).output().unwrap()
    }

    async fn healthy(&self, check: &[String]) {
        eventually(&format!("{} is healthy", self.name), || self.exec(check).status.success()).await;
        let status = std::fs::read_to_string(format!("/proc/{}/status", inmost(self.child.id()))).unwrap();
        let field = |name| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().split_whitespace();
        assert_eq!(field("NSpid:").next_back(), Some("1"));
        assert!(field("Uid:").all(|uid| uid == "10001"));
        assert!(field("Gid:").all(|gid| gid == "10001"));
    }

    /// As `docker stop` does.
    async fn stop(mut self, patience: Duration) {
        let server = inmost(self.child.id()).to_string();
        assert!(Command::new("kill").args(["-TERM", &server]).status().unwrap().success());
        let deadline = Instant::now() + patience;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "{} does not stop", self.name);
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert!(status.success(), "{}: {status}", self.name);
    }
}

/// Statements of root, sent from a container to the server of another; the rows.
fn sql(from: &Container, to: &str, statements: &str) -> String {
    let password = format!("MYSQL_PWD={PASSWORD}");
    let client = ["mariadb", "--no-defaults", "--host", to, "--port", "9030", "--user", "root", "--batch", "-N", "-e"];
    let output = from.exec([[password.as_str()].as_slice(), &client, &[statements]].concat());
    assert!(output.status.success(), "{statements}: {}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn the_image_runs_one_server() {
    let scratch = Scratch::new();
    let Some(host) = Host::start(&scratch) else { return };
    let image = Image::build(&host, &scratch);
    let engine = Engine::new(&host, &image, &scratch, &["alone"]);
    for rows in ["1", "2"] {
        let server = engine.run("alone", &[], &[("data".into(), "/data".into())]);
        server.healthy(&image.health).await;
        let client = ["mariadb", "--no-defaults", "--host=127.0.0.1", "--port=9030", "--user=root", "-BNe"];
        let statements = "CREATE DATABASE IF NOT EXISTS d; CREATE TABLE IF NOT EXISTS d.t (k INT); \
            INSERT INTO d.t VALUES (1); SELECT COUNT(*) FROM d.t";
        let output = server.exec([&client[..], &[statements]].concat());
        assert_eq!(said(&output).trim(), rows);
        server.stop(Duration::from_secs(10)).await;
    }
}

/// All of docker-compose.yml: brought up, stopped, and brought up again with other addresses.
#[tokio::test]
async fn the_composition_runs_a_cluster() {
    let scratch = Scratch::new();
    let Some(host) = Host::start(&scratch) else { return };
    let image = Image::build(&host, &scratch);
    let (services, declared) = composition();
    let used: BTreeSet<_> =
        services.values().flat_map(|service| service.volumes.iter().map(|(name, _)| name.clone())).collect();
    assert_eq!(used, declared);
    for port in services.values().flat_map(|service| &service.ports) {
        let parts: Vec<_> = port.split(':').collect();
        assert!(matches!(parts[..], ["127.0.0.1", _, to] if image.ports.iter().any(|port| port == to)), "{port}");
    }
    let servers: Vec<_> = services.iter().filter(|(_, service)| service.image == "holdfast").collect();
    assert_eq!(servers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["be1", "be2", "be3", "fe"]);
    let tools: Vec<_> = services.iter().filter(|(_, service)| service.image != "holdfast").collect();

    let mut names = ["fe", "be1", "be2", "be3"];
    for (start, label) in ["first", "second"].into_iter().enumerate() {
        if start == 1 {
            names.reverse();
            // A namespace alone takes its end of the pair down some time later, when the name is wanted again.
            for name in names {
                host.script("ip link delete \"$1\"; ip netns delete \"$1\"", [name]);
            }
        }
        let engine = Engine::new(&host, &image, &scratch, &names);
        let mut running: BTreeMap<&str, Container> = BTreeMap::new();
        while running.len() < servers.len() {
            let ready = |service: &Service| service.needs.iter().all(|name| running.contains_key(name.as_str()));
            let next = servers.iter().find(|(name, service)| !running.contains_key(name.as_str()) && ready(service));
            let (name, service) = next.unwrap();
            let container = engine.run(name, &service.command, &service.volumes);
            container.healthy(service.health.as_ref().unwrap()).await;
            running.insert(name, container);
        }
        for (name, tool) in &tools {
            assert!(tool.image.starts_with("mariadb:") && tool.needs.len() == servers.len());
            let command = [tool.entrypoint.clone().unwrap(), tool.command.clone()].concat();
            // Again, too, as `docker compose up` does each time.
            for _ in 0..2 {
                let output = engine.beside(tool.network_of.as_ref().unwrap(), &tool.environment, &command);
                assert!(output.status.success(), "{name}: {}", said(&output));
            }
        }
        let client = &running["be2"];
        let deadline = Instant::now() + PATIENCE;
        while sql(client, "fe", "SHOW BACKENDS").lines().filter(|line| line.contains("\ttrue\t")).count() < 3 {
            assert!(Instant::now() < deadline, "{}", sql(client, "fe", "SHOW BACKENDS\\G"));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if start == 0 {
            let create = "CREATE REPOSITORY r WITH BROKER ON LOCATION 'file:///repository/backups'; CREATE DATABASE d; \
                CREATE TABLE d.t (k INT) PROPERTIES ('replication_num' = '3')";
            sql(client, "fe", create);
        }
        let backup = format!(
            "INSERT INTO d.t VALUES ({start}), (10); BACKUP SNAPSHOT d.{label} TO r PROPERTIES ('wait' = 'true'); \
             RESTORE SNAPSHOT copy_{label}.{label} FROM r PROPERTIES ('backup_timestamp' = 'latest', 'wait' = 'true')"
        );
        sql(client, "fe", &backup);
        let rows = ["0\n10\n", "0\n1\n10\n10\n"][start];
        assert_eq!(sql(client, "fe", &format!("SELECT k FROM copy_{label}.t ORDER BY k")), rows);
        // BEs first: none is needed to stop another.
        for (name, container) in running {
            container.stop(services[name].patience).await;
        }
    }
    for file in declared.iter().flat_map(|volume| files(scratch.sub(&format!("volume-{volume}")))) {
        assert_eq!(std::fs::metadata(&file).unwrap().uid(), 10001, "{}", file.display());
    }
}
