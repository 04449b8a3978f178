//! The MySQL port as clients see it: packets byte by byte, and a real client.

mod wire {
    mod client;
    mod commands;
    mod engine;
    mod login;
    mod mariadb;
    mod results;
    mod sessions;
}
