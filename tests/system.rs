//! The program as its users meet it: real processes, killed and restarted, real clients, real files.
//!
//! Every test starts servers of its own, on free ports and in a fresh directory. Build with the feature `failpoints`,
//! which lets a test name the place where a server dies (`clock::crash_point`).

#![allow(clippy::unwrap_used, reason = "a helper that fails, fails its test")]

mod system {
    mod bad_input;
    mod br;
    mod client;
    mod clients;
    mod cloud;
    mod cluster;
    mod containers;
    mod crash;
    mod damage;
    mod demo;
    mod golden;
    mod harness;
    mod insert;
    mod jobs;
    mod joins;
    mod membership;
    mod power;
    mod proxy;
    mod raw_backup;
    mod rawkv;
    mod sample;
    mod servers;
    mod slt;
    mod stores;
}
