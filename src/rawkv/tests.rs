//! The room against RocksDB's own tools, a real backup, random data and damage.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::backupmeta::{BackupFile, BackupMeta, CLUSTER_VERSION};
use super::checksum::Checksum;
use super::layout::{LOCK_CONTENT, Layout, META, META_JSON, SstName, key_hash};
use super::sst::{Compression, SstOptions, SstReader, SstSummary, SstWriter};
use super::value::ApiVersion;
use super::verify::verify_file;
use super::{backupmeta, debug};
use crate::error::{Error, Result};
use crate::types::{ColumnFamily, KeyRange};

const COMPRESSIONS: [Compression; 4] = [Compression::None, Compression::Snappy, Compression::Lz4, Compression::Zstd];

type Data = BTreeMap<Vec<u8>, Vec<u8>>;

fn write(data: &Data, options: SstOptions) -> Result<(Vec<u8>, SstSummary)> {
    let mut writer = SstWriter::new(Vec::new(), "test.sst", options)?;
    for (key, value) in data {
        writer.put(key, value)?;
    }
    writer.finish()
}

fn read(bytes: &[u8], range: &KeyRange) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let sst = SstReader::open(bytes, "test.sst")?;
    let mut entries = sst.entries(range)?;
    let mut read = Vec::new();
    while let Some((key, value)) = entries.next_entry()? {
        read.push((key.to_vec(), value.to_vec()));
    }
    Ok(read)
}

fn range(start: &[u8], end: &[u8]) -> KeyRange {
    KeyRange::new(start.to_vec(), end.to_vec()).unwrap()
}

fn sum(data: &Data) -> Checksum {
    let mut sum = Checksum::default();
    data.iter().for_each(|(key, value)| sum.add(key, value));
    sum
}

/// Keys and values that RocksDB's tools have to get right: empty, binary, of 0xFF, alike, incompressible, large.
fn mixed_data() -> Data {
    let mut data: Data = (0..3000u32).map(|n| (format!("key-{n:06}").into(), format!("value of {n}").into())).collect();
    data.insert(vec![], b"at the empty key".to_vec());
    data.insert(vec![0], vec![]);
    data.insert(vec![0xFF; 10], vec![0xFF; 3]);
    data.insert(vec![0xFF; 11], vec![]);
    let noise = (0..50_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    data.insert(b"noise".to_vec(), noise);
    data.insert(b"zeros".to_vec(), vec![0; 200_000]);
    data
}

fn options(compression: Compression) -> SstOptions {
    SstOptions { compression, block_bytes: 4096, ..Default::default() }
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    // Few different bytes make long shared parts.
    let byte = prop_oneof![Just(0), Just(b'a'), Just(0xFF), any::<u8>()];
    prop::collection::vec(byte, 0..12)
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        (any::<u8>(), 0..3000usize).prop_map(|(byte, length)| vec![byte; length]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    /// Whatever is written is read again, whole and by ranges, and summed up right.
    #[test]
    fn what_is_written_is_read(
        data in prop::collection::btree_map(key(), value(), 1..200),
        compression in prop::sample::select(&COMPRESSIONS),
        block_bytes in 1..6000usize,
        restart_interval in 1..20usize,
        (a, b) in (key(), key()),
    ) {
        let (bytes, summary) = write(&data, SstOptions { compression, level: 0, block_bytes, restart_interval }).unwrap();
        prop_assert_eq!(summary.size, bytes.len() as u64);
        prop_assert_eq!(summary.sha256, key_hash(&bytes));
        prop_assert_eq!(summary.checksum, sum(&data));
        prop_assert_eq!(Some(&summary.first_key), data.keys().next());
        prop_assert_eq!(Some(&summary.last_key), data.keys().next_back());

        prop_assert_eq!(read(&bytes, &KeyRange::default()).unwrap(), data.clone().into_iter().collect::<Vec<_>>());
        if let Ok(range) = KeyRange::new(a, b) {
            let inside: Vec<_> = data.into_iter().filter(|(key, _)| range.contains(key)).collect();
            prop_assert_eq!(read(&bytes, &range).unwrap(), inside);
        }
        let mut count = 0;
        SstReader::open(bytes.as_slice(), "test.sst").unwrap().verify(|_, _| { count += 1; Ok(()) }).unwrap();
        prop_assert_eq!(count, summary.checksum.total_kvs);
    }

    /// A meta is read as it was written, in the order of its files' ranges.
    #[test]
    fn a_meta_is_read_as_it_was_written(
        bounds in prop::collection::btree_set(key(), 2..20),
        unbounded in any::<bool>(),
        numbers in any::<[u32; 5]>(),
        ttl in any::<bool>(),
    ) {
        let mut bounds: Vec<_> = bounds.into_iter().collect();
        if unbounded {
            bounds.push(vec![]);
        }
        let [cluster_id, size, crc64xor, total_kvs, total_bytes] = numbers.map(u64::from);
        let checksum = Checksum { crc64xor, total_kvs, total_bytes };
        let files = bounds.windows(2).enumerate().map(|(n, pair)| {
            let name = SstName { store: 1, region: n as u64, epoch_version: 1, start: &pair[0], millis: 7, cf: ColumnFamily::Write };
            BackupFile { name: name.path(Layout::Folders), size, sha256: key_hash(&pair[0]), range: range(&pair[0], &pair[1]), checksum }
        }).collect();
        let meta = BackupMeta {
            cluster_id,
            cluster_version: CLUSTER_VERSION.into(),
            br_version: "Holdfast\nRelease Version: 0".into(),
            api_version: if ttl { ApiVersion::V1Ttl } else { ApiVersion::V1 },
            cf: ColumnFamily::Write,
            range: range(&bounds[0], bounds.last().unwrap()),
            files,
        };
        prop_assert_eq!(BackupMeta::decode(&meta.encode(), "here").unwrap(), meta);
    }

    /// Bytes of any kind are refused, but nothing panics.
    #[test]
    fn noise_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(SstReader::open(bytes.as_slice(), "test.sst").is_err());
        prop_assert!(BackupMeta::decode(&bytes, "here").is_err());
    }
}

#[test]
fn keys_out_of_order_and_empty_files_are_bugs_of_the_caller() {
    let mut writer = SstWriter::new(Vec::new(), "test.sst", SstOptions::default()).unwrap();
    writer.put(b"b", b"").unwrap();
    for key in ["b", "a", ""] {
        assert!(matches!(writer.put(key.as_bytes(), b""), Err(Error::Internal(_))), "{key}");
    }
    let writer = SstWriter::new(Vec::new(), "test.sst", SstOptions::default()).unwrap();
    assert!(matches!(writer.finish(), Err(Error::Internal(_))));
}

/// Every bit of a file counts, but one: format versions 2 and 3 differ in what a writer may do, and the properties say
/// whether it did.
#[test]
fn every_flipped_bit_is_found() {
    for compression in COMPRESSIONS {
        let data: Data = mixed_data().into_iter().filter(|(_, value)| value.len() < 100).take(60).collect();
        let (bytes, _) = write(&data, SstOptions { block_bytes: 400, ..options(compression) }).unwrap();
        let mut harmless = Vec::new();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                match SstReader::open(damaged.as_slice(), "test.sst").and_then(|sst| sst.verify(|_, _| Ok(()))) {
                    Ok(()) => harmless.push((bytes.len() - at, bit)),
                    Err(Error::Corrupt { .. } | Error::Unsupported(_)) => {}
                    Err(other) => panic!("byte {at} bit {bit}: {other}"),
                }
            }
        }
        assert_eq!(harmless, [(12, 0)], "{compression:?}");
    }
}

/// Replaces bytes inside a block of an uncompressed file, and gives the block its right checksum again.
fn forge(file: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let checksum = |block: &[u8]| crc_fast::crc32_iscsi(block).rotate_right(15).wrapping_add(0xA282_EAD8).to_le_bytes();
    let mut file = file.to_vec();
    let at = file.windows(from.len()).position(|window| window == from).unwrap();
    let mut start = 0;
    loop {
        let end = (start..).find(|end| file[*end..].starts_with(&checksum(&file[start..*end]))).unwrap();
        if at < end {
            file[at..at + to.len()].copy_from_slice(to);
            let sum = checksum(&file[start..end]);
            file[end..end + 4].copy_from_slice(&sum);
            return file;
        }
        start = end + 4;
    }
}

/// Right checksums do not make a file right.
#[test]
fn what_a_wrong_writer_wrote_is_refused() {
    let data: Data = [("aa", "1"), ("bb", "2")].map(|(key, value)| (key.into(), value.into())).into();
    let (right, _) = write(&data, options(Compression::None)).unwrap();
    let refused = |from: &[u8], to: &[u8]| {
        let forged = forge(&right, from, to);
        let verified = SstReader::open(forged.as_slice(), "test.sst").and_then(|sst| sst.verify(|_, _| Ok(())));
        verified.unwrap_err().to_string()
    };
    assert_eq!(refused(b"bb", b"aa"), "corrupt SST test.sst: key 'aa' is out of order");
    assert_eq!(refused(b"bb\x01", b"bb\x00"), "corrupt SST test.sst: key 'bb' was not put, but is an entry of type 0");
    assert_eq!(refused(b"zaa", b"yaa"), "corrupt SST test.sst: key 'yaa' lacks TiKV's prefix");
    let entries = b"rocksdb.num.entries";
    let count = refused(&[entries.as_slice(), &[2]].concat(), &[entries.as_slice(), &[3]].concat());
    assert_eq!(count, "corrupt SST test.sst: it has 2 entries and should have 3");
    let order = refused(b"leveldb.BytewiseComparator", b"rocksdb.U64-TS-Comparators");
    assert_eq!(order, "unsupported: SST test.sst has keys that are not in the order of their bytes");
}

/// Each length a torn write or download may leave.
#[test]
fn a_file_cut_short_is_found() {
    let (bytes, _) = write(&mixed_data().into_iter().take(50).collect(), options(Compression::Zstd)).unwrap();
    for length in 0..bytes.len() {
        assert!(SstReader::open(&bytes[..length], "test.sst").is_err(), "{length}");
    }
}

/// Whether RocksDB's tools are there, from Debian's `rocksdb-tools`.
fn has_rocksdb() -> bool {
    let found = Command::new("ldb").arg("--version").stdin(Stdio::null()).output().is_ok();
    if !found {
        skip("install Debian's rocksdb-tools");
    }
    found
}

/// Says that a test could not run here. Where all is installed, in CI, that is a failure.
fn skip(message: &str) {
    assert!(std::env::var_os("CI").is_none(), "skipped: {message}");
    eprintln!("skipped: {message}");
}

/// Runs one of RocksDB's tools.
fn rocksdb(program: &str, args: &[&str], input: Option<File>) -> String {
    let stdin = input.map_or(Stdio::null(), Stdio::from);
    let output = Command::new(program).args(args).stdin(stdin).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {text}");
    text
}

/// RocksDB verifies, scans and ingests what is written, and finds each key in it.
#[test]
fn rocksdb_takes_our_files() {
    if !has_rocksdb() {
        return;
    }
    let data = mixed_data();
    for compression in COMPRESSIONS {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ours.sst");
        let mut writer = SstWriter::new(File::create(&path).unwrap(), "ours.sst", options(compression)).unwrap();
        data.iter().for_each(|(key, value)| writer.put(key, value).unwrap());
        writer.finish().unwrap();
        let file = format!("--file={}", path.display());

        assert!(rocksdb("sst_dump", &[&file, "--command=verify"], None).contains("The file is ok"));
        let raw = rocksdb("sst_dump", &[&file, "--command=raw", "--show_properties"], None);
        assert!(!raw.contains("orruption"), "{raw}");
        let dump = fs::read(directory.path().join("ours_dump.txt")).unwrap();
        let dump = String::from_utf8_lossy(&dump);
        assert!(dump.contains("format version: 2\n") && dump.contains("# entries: 3006\n"));
        let algorithm = match compression {
            Compression::None => "NoCompression",
            Compression::Snappy => "Snappy",
            Compression::Lz4 => "LZ4",
            Compression::Zstd => "ZSTD",
        };
        assert!(dump.contains(&format!("SST file compression algo: {algorithm}\n")));

        let scan = rocksdb("sst_dump", &[&file, "--command=scan", "--output_hex"], None);
        let scanned: Vec<&str> = scan.lines().filter(|line| line.contains(" => ")).collect();
        let hex = |bytes: &[u8]| hex::encode_upper(bytes);
        let expected: Vec<String> =
            data.iter().map(|(key, value)| format!("'7A{}' seq:0, type:1 => {}", hex(key), hex(value))).collect();
        assert_eq!(scanned, expected);

        let db = format!("--db={}", directory.path().join("db").display());
        let copy = path.display().to_string();
        rocksdb("ldb", &[&db, "--create_if_missing", "ingest_extern_sst", &copy], None);
        let scan = rocksdb("ldb", &[&db, "scan", "--hex"], None);
        let expected: Vec<String> =
            data.iter().map(|(key, value)| format!("0x7A{} : 0x{}", hex(key), hex(value))).collect();
        assert_eq!(scan.lines().collect::<Vec<_>>(), expected);
        for key in data.keys().step_by(250) {
            let got = rocksdb("ldb", &[&db, "get", "--hex", &format!("0x7A{}", hex(key))], None);
            assert_eq!(got.trim_end(), format!("0x{}", hex(&data[key])));
        }
    }
}

/// An SST that RocksDB made, with the given lines of its options file.
fn made_by_rocksdb(directory: &Path, entries: &Data, compression: &str, settings: &[(&str, &str)]) -> PathBuf {
    let db = format!("--db={}", directory.display());
    let text: String = entries.iter().map(|(key, value)| format!("{} ==> {}\n", hexed(key), hexed(value))).collect();
    let (first, _) = entries.first_key_value().unwrap();
    rocksdb(
        "ldb",
        &[
            &db,
            "--create_if_missing",
            &format!("--compression_type={compression}"),
            "--hex",
            "put",
            &hexed(first),
            "0x00",
        ],
        None,
    );
    let names = || fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let options = names().find(|path| path.file_name().unwrap().to_string_lossy().starts_with("OPTIONS-")).unwrap();
    let mut lines: Vec<String> = fs::read_to_string(&options).unwrap().lines().map(str::to_owned).collect();
    for (name, value) in settings {
        let line = lines.iter_mut().find(|line| line.trim_start().starts_with(&format!("{name}=")));
        *line.unwrap_or_else(|| panic!("no option {name}")) = format!("  {name}={value}");
    }
    fs::write(&options, lines.join("\n") + "\n").unwrap();
    let input = directory.join("input.txt");
    fs::write(&input, text).unwrap();
    rocksdb("ldb", &[&db, "--hex", "load"], Some(File::open(&input).unwrap()));
    rocksdb("ldb", &[&db, "compact"], None);
    let mut files: Vec<PathBuf> = names().filter(|path| path.extension().is_some_and(|name| name == "sst")).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

fn hexed(bytes: &[u8]) -> String {
    format!("0x{}", hex::encode_upper(bytes))
}

/// What RocksDB writes is read, in every format version, with every checksum and compression, and with indexes that
/// leave out what they can; and each of its blocks is checked.
#[test]
fn files_of_rocksdb_are_read() {
    if !has_rocksdb() {
        return;
    }
    let data: Data =
        (0..2000u32).map(|n| (format!("zkey-{:04}", n * 3).into(), vec![n as u8; n as usize % 90])).collect();
    let user: Vec<_> = data.iter().map(|(key, value)| (key[1..].to_vec(), value.clone())).collect();
    for (version, checksum, compression, more) in [
        ("2", "kCRC32c", "zstd", &[("filter_policy", "bloomfilter:10:false")] as &[(&str, &str)]),
        ("2", "kxxHash", "no", &[]),
        ("3", "kxxHash64", "snappy", &[]),
        ("4", "kxxHash64", "lz4", &[("index_block_restart_interval", "8")]),
        ("4", "kCRC32c", "lz4hc", &[]),
        (
            "5",
            "kXXH3",
            "zstd",
            &[("data_block_index_type", "kDataBlockBinaryAndHash"), ("index_block_restart_interval", "3")],
        ),
        ("5", "kXXH3", "no", &[("filter_policy", "ribbonfilter:10"), ("block_restart_interval", "1")]),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let settings = [&[("format_version", version), ("checksum", checksum), ("block_size", "1000")], more].concat();
        let path = made_by_rocksdb(directory.path(), &data, compression, &settings);
        let bytes = fs::read(&path).unwrap();
        assert_eq!(bytes[bytes.len() - 12], version.parse::<u8>().unwrap());
        let what = format!("{version} {checksum} {compression} {more:?}");

        assert_eq!(read(&bytes, &KeyRange::default()).unwrap(), user, "{what}");
        assert_eq!(read(&bytes, &range(b"key-3000", b"key-3010")).unwrap().len(), 4, "{what}");
        let verify = |bytes: &[u8]| SstReader::open(bytes, "rocksdb.sst").and_then(|sst| sst.verify(|_, _| Ok(())));
        verify(&bytes).unwrap();
        for at in (0..bytes.len() - 12).step_by(211) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            assert!(verify(&damaged).is_err(), "{what}: byte {at}");
        }
    }
}

/// What the reader does not know is refused by its name, not read wrong.
#[test]
fn other_files_of_rocksdb_are_refused() {
    if !has_rocksdb() {
        return;
    }
    let refusal = |data: &Data, settings: &[(&str, &str)]| {
        let directory = tempfile::tempdir().unwrap();
        let path = made_by_rocksdb(directory.path(), data, "zstd", settings);
        read(&fs::read(path).unwrap(), &KeyRange::default()).unwrap_err().to_string()
    };
    let data: Data = (0..2000u32).map(|n| (format!("zkey-{n:04}").into(), vec![n as u8; 30])).collect();
    let levels = "unsupported: SST test.sst has an index of several levels, or with first keys";
    assert_eq!(refusal(&data, &[("index_type", "kTwoLevelIndexSearch")]), levels);
    assert_eq!(refusal(&data, &[("index_type", "kBinarySearchWithFirstKey")]), levels);
    assert_eq!(
        refusal(
            &data,
            &[
                ("compression_opts", "{max_dict_bytes=4096;zstd_max_train_bytes=0;level=3;enabled=true;}"),
                ("bottommost_compression_opts", "{max_dict_bytes=4096;zstd_max_train_bytes=0;level=3;enabled=true;}")
            ]
        ),
        "unsupported: SST test.sst has a compression dictionary"
    );
    let foreign: Data = [(b"key".to_vec(), vec![])].into();
    assert_eq!(refusal(&foreign, &[]), "corrupt SST test.sst: key 'key' lacks TiKV's prefix");

    // A deleted range stays in the file that the log of an unfinished process becomes.
    let directory = tempfile::tempdir().unwrap();
    let db = format!("--db={}", directory.path().display());
    rocksdb("ldb", &[&db, "--create_if_missing", "put", "zkey-1", "1"], None);
    rocksdb("ldb", &[&db, "deleterange", "zkey-2", "zkey-3"], None);
    rocksdb("ldb", &[&db, "put", "zkey-4", "4"], None);
    let files = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path());
    let read_all = |path: PathBuf| read(&fs::read(path).unwrap(), &KeyRange::default());
    let files = files.filter(|path| path.extension().is_some_and(|name| name == "sst"));
    let refusals: Vec<_> = files.map(read_all).filter_map(|read| read.err().map(|error| error.to_string())).collect();
    assert_eq!(refusals, ["unsupported: SST test.sst has deletions of ranges"]);

    let (mut bytes, _) = write(&foreign, SstOptions::default()).unwrap();
    let at = bytes.len() - 12;
    for version in [0, 1, 6, 7] {
        bytes[at] = version;
        let message = read(&bytes, &KeyRange::default()).unwrap_err().to_string();
        assert_eq!(message, format!("unsupported: SST test.sst has format version {version}; 2 to 5 are read"));
    }
}

/// A backup in a directory, of three regions, of which one is empty.
fn backup(directory: &Path, data: &Data, compression: Compression) -> BackupMeta {
    fs::create_dir(directory.join("1")).unwrap();
    fs::create_dir(directory.join("2")).unwrap();
    let mut files = Vec::new();
    for (region, (start, end)) in [("", "key-0005"), ("key-0005", "key-002"), ("key-002", "")].into_iter().enumerate() {
        let region_range = range(start.as_bytes(), end.as_bytes());
        let (store, region) = (region as u64 % 2 + 1, region as u64 + 10);
        let cf = ColumnFamily::Default;
        let name = SstName { store, region, epoch_version: 3, start: start.as_bytes(), millis: 1_700_000_000_000, cf };
        let name = name.path(Layout::Folders);
        let path = directory.join(&name);
        let mut writer = SstWriter::new(File::create(path).unwrap(), &name, options(compression)).unwrap();
        data.iter()
            .filter(|(key, _)| region_range.contains(key))
            .for_each(|(key, value)| writer.put(key, value).unwrap());
        let (_, SstSummary { size, sha256, checksum, .. }) = writer.finish().unwrap();
        files.push(BackupFile { name, size, sha256, range: region_range, checksum });
    }
    let meta = BackupMeta {
        cluster_id: 7,
        cluster_version: CLUSTER_VERSION.into(),
        br_version: "Holdfast".into(),
        api_version: ApiVersion::V1,
        cf: ColumnFamily::Default,
        range: KeyRange::default(),
        files,
    };
    fs::write(directory.join(META), meta.encode()).unwrap();
    fs::write(directory.join("backup.lock"), LOCK_CONTENT).unwrap();
    meta
}

/// The command line's checks of a directory: all is right, then a file damaged, another missing.
#[test]
fn a_directory_is_decoded_and_checked() {
    let (data, directory) = (mixed_data(), tempfile::tempdir().unwrap());
    let root = directory.path();
    let meta = backup(root, &data, Compression::Zstd);
    assert_eq!(meta.checksum(), sum(&data));

    let report = debug::checksum(root, None).unwrap();
    let Checksum { crc64xor, total_kvs, total_bytes } = sum(&data);
    let whole = format!("3 files, total-kvs={total_kvs} total-bytes={total_bytes} crc64xor={crc64xor}\n");
    assert!(report.is_ok() && report.to_string().ends_with(&(whole + "backup data checksum succeed!\n")), "{report}");

    let json = root.join(META_JSON);
    assert_eq!(debug::decode(root).unwrap(), format!("backupmeta decoded at {}\n", json.display()));
    let json: serde_json::Value = serde_json::from_slice(&fs::read(json).unwrap()).unwrap();
    assert_eq!(json["files"][1]["start_key"], hex::encode("key-0005"));
    assert_eq!(json["files"][1]["sha256"], meta.files[1].sha256.to_string());
    assert_eq!(json["ddls"], serde_json::json!([]));
    assert_eq!(json["raw_ranges"], serde_json::json!([{ "cf": "default" }]));
    assert_eq!((&json["is_raw_kv"], &json["cluster_version"]), (&true.into(), &CLUSTER_VERSION.into()));
    assert_eq!((json.get("version"), json.get("api_version")), (None, None));

    let damaged = root.join(&meta.files[1].name);
    let mut bytes = fs::read(&damaged).unwrap();
    bytes[100] ^= 1;
    fs::write(&damaged, bytes).unwrap();
    fs::remove_file(root.join(&meta.files[2].name)).unwrap();
    let report = debug::checksum(root, None).unwrap();
    let text = report.to_string();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].contains(": ok, total-kvs=502 "), "{text}");
    assert!(lines[1].contains("FAILED: corrupt backup file 2/11_3_") && lines[1].contains("calculated sha256 is"));
    assert!(lines[2].contains("FAILED: open ") && lines[2].contains("No such file"), "{text}");
    assert_eq!(lines[3], "backup data checksum failed: 2 of 3 files may be changed");
}

#[test]
fn a_storage_names_a_directory_as_in_br() {
    let directory = |storage| debug::local_directory(storage).map_err(|error| error.to_string());
    for (storage, path) in [
        ("local:///a/b", "/a/b"),
        ("file:///a%20b?access-key=x", "/a b"),
        ("local:///a+b", "/a+b"),
        ("/a%20b", "/a%20b"),
        ("a/b", "a/b"),
    ] {
        assert_eq!(directory(storage).unwrap(), Path::new(path), "{storage}");
    }
    assert!(directory("").unwrap_err().starts_with("empty store is not allowed"));
    assert!(directory("s3://bucket/b").unwrap_err().contains("only local directories are read"));
}

/// A backup that an earlier Holdfast made is read.
#[test]
fn the_golden_backup_is_read() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rawkv/golden");
    let report = debug::checksum(&directory, None).unwrap();
    assert!(report.is_ok() && report.0.len() == 3, "{report}");
    let read = report
        .0
        .iter()
        .flat_map(|(file, _)| read(&fs::read(directory.join(&file.name)).unwrap(), &file.range).unwrap());
    assert_eq!(read.collect::<Data>(), golden_data());
}

fn golden_data() -> Data {
    mixed_data().into_iter().step_by(10).filter(|(_, value)| value.len() < 1000).collect()
}

/// A file can be sound in itself, and yet not what the backup says of it.
#[test]
fn what_the_meta_says_of_a_file_is_checked() {
    let data: Data = [("a", "1"), ("b", "2")].map(|(key, value)| (key.into(), value.into())).into();
    let (bytes, SstSummary { size, sha256, checksum, .. }) = write(&data, SstOptions::default()).unwrap();
    let right = BackupFile { name: "f.sst".into(), size, sha256, range: range(b"a", b"c"), checksum };
    let verify = |file: &BackupFile, api| verify_file(&bytes.as_slice(), file, api).map_err(|error| error.to_string());
    assert_eq!(verify(&right, ApiVersion::V1).unwrap(), checksum);
    let too_short = "corrupt backup file f.sst: the value of key 'a' is too short for V1TTL";
    assert_eq!(verify(&right, ApiVersion::V1Ttl).unwrap_err(), too_short);

    let wrong = |change: fn(&mut BackupFile)| {
        let mut file = right.clone();
        change(&mut file);
        verify(&file, ApiVersion::V1).unwrap_err()
    };
    assert!(wrong(|file| file.size += 1).ends_with("bytes and should have 962"), "{}", wrong(|file| file.size += 1));
    assert!(wrong(|file| file.sha256.0[0] ^= 1).contains("calculated sha256 is"));
    assert!(wrong(|file| file.range = range(b"a", b"b")).contains("key 'b' is outside of its range [61, 62)"));
    assert!(wrong(|file| file.range = range(b"aa", b"c")).contains("key 'a' is outside"));
    assert!(wrong(|file| file.checksum.total_kvs = 3).contains("2 entries and should have 3"));
    assert!(wrong(|file| file.checksum.crc64xor ^= 1).contains("its CRC-64 is"));
    // TiKV before 6.1 took none.
    let mut old = right.clone();
    old.checksum.crc64xor = 0;
    assert_eq!(verify(&old, ApiVersion::V1).unwrap(), checksum);
}

/// A backup of API V1TTL is summed up without the expiry in its values, which some TiKV counted into the bytes.
#[test]
fn a_v1ttl_file_is_verified_without_its_expiry() {
    let user: Data = [("a", "1"), ("b", "")].map(|(key, value)| (key.into(), value.into())).into();
    let with_expiry =
        |(key, value): (&Vec<u8>, &Vec<u8>)| (key.clone(), [value.as_slice(), &7u64.to_be_bytes()].concat());
    let stored: Data = user.iter().map(with_expiry).collect();
    let (bytes, SstSummary { size, sha256, checksum, .. }) = write(&stored, SstOptions::default()).unwrap();
    let Checksum { crc64xor, total_kvs, .. } = sum(&user);
    let checksum = Checksum { crc64xor, total_kvs, total_bytes: checksum.total_bytes };
    let file = BackupFile { name: "f.sst".into(), size, sha256, range: KeyRange::default(), checksum };
    assert_eq!(verify_file(&bytes.as_slice(), &file, ApiVersion::V1Ttl).unwrap(), sum(&user));
    let taken_for_v1 = verify_file(&bytes.as_slice(), &file, ApiVersion::V1).unwrap_err().to_string();
    assert!(taken_for_v1.contains("its CRC-64 is"), "{taken_for_v1}");
}

/// Other backups of BR's are refused by their names, and wrong ones with what is wrong.
#[test]
fn other_metas_are_refused() {
    use backupmeta::proto;
    use prost::Message;

    let directory = tempfile::tempdir().unwrap();
    let meta = backup(directory.path(), &mixed_data(), Compression::None);
    let right = proto::BackupMeta::decode(meta.encode().as_slice()).unwrap();
    assert_eq!(right.backup_size, {
        let mut without = right.clone();
        without.backup_size = 0;
        without.encoded_len() as u64 + meta.files.iter().map(|file| file.size).sum::<u64>()
    });
    let refused = |change: fn(&mut proto::BackupMeta)| {
        let mut meta = right.clone();
        change(&mut meta);
        BackupMeta::decode(&meta.encode_to_vec(), "local:///b").unwrap_err().to_string()
    };
    for (change, message) in [
        (
            (|meta| meta.is_raw_kv = false) as fn(&mut proto::BackupMeta),
            "cannot do raw restore from transactional data",
        ),
        (|meta| meta.version = 1, "metadata V2"),
        (|meta| meta.file_index = Some(Default::default()), "metadata V2"),
        (|meta| meta.api_version = 2, "API V2"),
        (|meta| meta.api_version = 9, "API V2 or later"),
        (|meta| meta.mode = 1, "mode FILE"),
        (|meta| meta.raw_ranges.push(Default::default()), "more than one range"),
        (|meta| meta.raw_ranges.clear(), "corrupt backupmeta in local:///b: it names no range"),
        (|meta| meta.raw_ranges[0].cf = "lock".into(), "invalid cf name: lock"),
        (|meta| meta.raw_ranges[0].cf = "write".into(), "is of column family default, and its range of write"),
        (
            |meta| meta.raw_ranges[0].end_key = b"key".into(),
            "covers [, 6B65792D30303035), which is not all in [, 6B6579)",
        ),
        (|meta| meta.files[0].name = "../outside".into(), "'../outside' is no name of a file"),
        (|meta| meta.files[0].name = "/etc/passwd".into(), "'/etc/passwd' is no name of a file"),
        (|meta| meta.files.iter_mut().for_each(|file| file.name = "same.sst".into()), "twice"),
        (|meta| meta.files[0].end_key = b"key-0006".into(), "overlap"),
        (|meta| meta.files[1].end_key = b"a".into(), "is empty"),
        (|meta| _ = meta.files[0].sha256.pop(), "has no SHA-256"),
        (|meta| meta.files[1].crc64xor ^= 1, "it is not what was written"),
        (|meta| meta.cluster_id = 8, "it is not what was written"),
        (|meta| meta.backup_size = 1, "its backup_size is not that of its files"),
        (|meta| meta.backup_size *= 2, "its backup_size is not that of its files"),
        (
            |meta| meta.files[0].name = format!("1/2_2_{}_1_default.sst", key_hash(b"other")),
            "is named after another first key",
        ),
    ] {
        let found = refused(change);
        assert!(found.contains(message), "{found}\n{message}");
    }
    let encrypted = BackupMeta::decode(&[0xA7; 64], "local:///b").unwrap_err().to_string();
    assert!(encrypted.contains("is encrypted, or damaged"), "{encrypted}");
    let cut = BackupMeta::decode(&meta.encode()[..200], "local:///b").unwrap_err();
    assert!(matches!(cut, Error::Corrupt { .. }), "{cut}");
}

/// Whatever single byte is changed: it is refused, or nothing that a restore goes by has changed.
#[test]
fn a_flipped_byte_of_backupmeta_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let meta = backup(directory.path(), &mixed_data(), Compression::None);
    let right = meta.encode();
    assert_eq!(BackupMeta::decode(&right, "local:///b").unwrap(), meta);
    let (mut flipped, mut passed) = (right.clone(), 0);
    for at in 0..right.len() {
        for bit in 0..8 {
            flipped[at] ^= 1 << bit;
            if let Ok(mut read) = BackupMeta::decode(&flipped, "local:///b") {
                read.br_version.clone_from(&meta.br_version);
                assert_eq!(read, meta, "bit {bit} of byte {at}");
                passed += 1;
            }
            flipped[at] ^= 1 << bit;
        }
    }
    // Of the words before the hash.
    assert!(passed < 8 * 40, "{passed}");
}

#[test]
fn a_restore_is_inside_the_backup() {
    let directory = tempfile::tempdir().unwrap();
    let mut meta = backup(directory.path(), &mixed_data(), Compression::None);
    let files = |meta: &BackupMeta, start: &[u8], end: &[u8]| meta.files_in(&range(start, end)).count();
    assert_eq!(files(&meta, b"", b""), 3);
    assert_eq!(files(&meta, b"key-0005", b"key-002"), 1);
    assert_eq!(files(&meta, b"key-001", b"key-003"), 2);

    meta.range = range(b"b", b"y");
    let restore = |cf, start: &str, end: &str| {
        let range = meta.restore_range(cf, start.as_bytes(), end.as_bytes());
        range.map(|range| range.to_string()).map_err(|error| error.to_string())
    };
    let default = ColumnFamily::Default;
    assert_eq!(restore(default, "", "").unwrap(), "[62, 79)");
    assert_eq!(restore(default, "c", "").unwrap(), "[63, 79)");
    assert_eq!(restore(default, "b", "c").unwrap(), "[62, 63)");
    let outside = restore(default, "a", "c").unwrap_err();
    assert!(
        outside.contains(
            "the given range to restore [61, 63) is not fully covered by the range that was backed up [62, 79)"
        )
    );
    assert!(restore(default, "y", "z").unwrap_err().contains("no backup data in the range"));
    assert!(restore(ColumnFamily::Write, "", "").unwrap_err().contains("no backup data in the range"));
    assert!(restore(default, "c", "c").unwrap_err().contains("endKey must be greater than startKey"));
}

/// A backup that `br` 5.2.1 made of TiKV 5.3.0-alpha is read in full, and sums up to what was measured of it by other
/// means. It is in the directory HOLDFAST_BR_FIXTURE.
#[test]
fn a_backup_of_br_is_read() {
    let Some(directory) = std::env::var_os("HOLDFAST_BR_FIXTURE").filter(|named| named != "none").map(PathBuf::from)
    else {
        return skip("HOLDFAST_BR_FIXTURE names no directory");
    };
    let bytes = fs::read(directory.join(META)).unwrap();
    let meta = BackupMeta::decode(&bytes, "fixture").unwrap();
    assert_eq!(meta.cluster_version, "\"5.3.0-alpha\"\n");
    assert!(meta.br_version.starts_with("BR\nRelease Version: v5.2.1\n"));
    assert_eq!(
        (meta.api_version, meta.cf, &meta.range),
        (ApiVersion::V1, ColumnFamily::Default, &range(b"test", b"u"))
    );
    let expected = [
        ("4_8_2", 14_689_893_359_140_782_766, range(b"test", b"test_-009965169116504")),
        ("1_2_2", 16_880_284_908_704_488_181, range(b"test_-009965169116504", b"u")),
    ];
    let report = debug::checksum(&directory, None).unwrap();
    for ((file, result), (name, crc64xor, range)) in report.0.iter().zip(expected) {
        let millis: u64 = file.name.split('_').nth(4).unwrap().parse().unwrap();
        let numbers: Vec<u64> = name.split('_').map(|number| number.parse().unwrap()).collect();
        let start = file.range.start();
        let [store, region, epoch_version] = numbers[..].try_into().unwrap();
        let made = SstName { store, region, epoch_version, start, millis, cf: ColumnFamily::Default };
        assert_eq!(file.name, made.path(Layout::Flat));
        assert_eq!(file.range, range);
        assert_eq!(result.as_ref().unwrap().crc64xor, crc64xor, "{}", file.name);
        assert_eq!(result.as_ref().unwrap().total_kvs, 500);
        assert_eq!(result.as_ref().unwrap().total_bytes, file.checksum.total_bytes);
    }
    assert!(report.is_ok() && report.0.len() == 2);
    let json = debug::to_json(&bytes, "fixture").unwrap();
    assert!(json.contains(r#""cluster_version":"\"5.3.0-alpha\"\n""#) && json.contains(r#""ddls":[]"#), "{json}");
}
