use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::thread;

use tokio::net::{TcpListener, TcpStream};

/// Serves every connection to a free port of 127.0.0.1 in a thread that ends with the process. Answers the port.
pub(crate) fn listen<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> u16
where
    F: Future<Output = ()> + Send + 'static,
{
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listener = StdListener::bind(any).expect("a port");
    listener.set_nonblocking(true).expect("non-blocking");
    let port = listener.local_addr().expect("an address").port();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    thread::spawn(move || {
        runtime.block_on(async move {
            let listener = TcpListener::from_std(listener).expect("a listener");
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream));
            }
        });
    });
    port
}
