use std::io::{Read, Write};
use std::time::Instant;

use super::*;

/// Sends back what it gets, over any number of connections.
fn echo() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || io::copy(&mut &stream, &mut &stream));
        }
    });
    Ok(port)
}

fn connect(proxy: &Proxy) -> Result<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port()))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    Ok(stream)
}

fn round_trip(mut stream: &TcpStream) -> io::Result<[u8; 4]> {
    let mut answer = [0; 4];
    stream.write_all(b"ping")?;
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

#[test]
fn an_open_path_forwards_and_a_slow_one_later() -> Result<()> {
    let proxy = Proxy::to(echo()?)?;
    let stream = connect(&proxy)?;
    assert_eq!(&round_trip(&stream)?, b"ping");
    proxy.set(Path::Slow(Duration::from_millis(50)));
    let began = Instant::now();
    assert_eq!(&round_trip(&stream)?, b"ping");
    // There and back; it can only take longer.
    assert!(began.elapsed() >= Duration::from_millis(100));
    Ok(())
}

#[test]
fn a_cut_path_ends_connections_and_refuses_until_it_heals() -> Result<()> {
    let proxy = Proxy::to(echo()?)?;
    let stream = connect(&proxy)?;
    assert_eq!(&round_trip(&stream)?, b"ping");
    proxy.set(Path::Cut);
    assert!(round_trip(&stream).is_err(), "it still answers");
    let refused =
        crate::client::wait_until(
            "a refusal",
            Duration::from_secs(20),
            || match TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())) {
                Err(error) => Ok(error.kind()),
                Ok(_) => Err("accepted".to_owned()),
            },
        )?;
    assert_eq!(refused, io::ErrorKind::ConnectionRefused);
    proxy.set(Path::Open);
    let stream = crate::client::wait_until("a connection", Duration::from_secs(20), || {
        connect(&proxy).map_err(|error| error.to_string())
    })?;
    assert_eq!(&round_trip(&stream)?, b"ping");
    Ok(())
}

#[test]
fn a_silent_path_accepts_and_passes_nothing_until_it_heals() -> Result<()> {
    let proxy = Proxy::to(echo()?)?;
    let old = connect(&proxy)?;
    assert_eq!(&round_trip(&old)?, b"ping");
    proxy.set(Path::Silent);
    let new = connect(&proxy)?;
    for mut stream in [&old, &new] {
        stream.write_all(b"ping")?;
        stream.set_read_timeout(Some(Duration::from_millis(200)))?;
        assert!(stream.read_exact(&mut [0; 4]).is_err(), "something passed");
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    }
    proxy.set(Path::Open);
    for mut stream in [&old, &new] {
        let mut late = [0; 4];
        stream.read_exact(&mut late)?;
        assert_eq!(&late, b"ping", "what was under way arrives");
    }
    Ok(())
}
