//! The MySQL port as clients see it: packets byte by byte, and a real client.

#![allow(clippy::unwrap_used, reason = "a helper that fails, fails its test")]

mod wire {
    mod client;
    mod commands;
    mod engine;
    mod login;
    mod mariadb;
    mod results;
    mod sessions;
}
