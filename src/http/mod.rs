//! The HTTP port of an FE or a BE: health.

use std::net::SocketAddr;

use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};

/// An HTTP port that listens but does not answer yet.
pub struct HttpServer {
    listener: TcpListener,
}

impl HttpServer {
    /// Listens; port 0 picks a free one.
    pub async fn bind(address: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(address).await;
        Ok(Self { listener: listener.map_err(Error::io("listen on HTTP port", address.to_string()))? })
    }

    /// Where it listens.
    pub fn address(&self) -> Result<SocketAddr> {
        self.listener.local_addr().map_err(Error::io("ask for the address of", "the HTTP port"))
    }

    /// Answers until told to stop.
    pub async fn run(self, shutdown: CancellationToken) -> Result<()> {
        let health = || async { ([("content-type", "application/json")], "{\"status\":\"OK\"}\n") };
        let router = Router::new().route("/api/health", get(health));
        axum::serve(self.listener, router)
            .with_graceful_shutdown(shutdown.cancelled_owned())
            .await
            .map_err(Error::io("serve", "the HTTP port"))
    }
}
