//! Compiles the FE–BE contract and BR's messages, in Rust alone, so that no protoc must be installed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let is = |variable, value: &str| std::env::var(variable).is_ok_and(|found| found == value);
    if is("PROFILE", "release") && !is("CARGO_FEATURE_JEMALLOC", "1") {
        println!("cargo:warning=without `--features jemalloc`, loads and merges take several times the memory");
    }
    println!("cargo:rerun-if-changed=src/rpc/backend.proto");
    let files = protox::compile(["src/rpc/backend.proto"], ["src/rpc"])?;
    tonic_prost_build::configure().bytes(".holdfast.v1").compile_fds(files)?;

    println!("cargo:rerun-if-changed=src/rawkv/backup.proto");
    let files = protox::compile(["src/rawkv/backup.proto"], ["src/rawkv"])?;
    tonic_prost_build::configure().compile_fds(files)?;
    Ok(())
}
