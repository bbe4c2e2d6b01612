//! gRPC over SSS: a tonic server and client, whose connections are substreams: `cargo run -p libsss --example
//! 11_tonic`. The service is written by hand, so that no protobuf compiler is needed; generated code fits in the same
//! places.

use std::convert::Infallible;
use std::error::Error;
use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::stream;
use hyper::{Request as HttpRequest, Response as HttpResponse, Uri};
use hyper_util::rt::TokioIo;
use sss::{Eid, Host, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::body::Body;
use tonic::client::Grpc as Client;
use tonic::server::{Grpc as Server, UnaryService};
use tonic::transport::server::Connected;
use tonic::transport::{Endpoint, Server as Transport};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;
use tower::service_fn;

type Failure = Box<dyn Error + Send + Sync>;

#[derive(Clone, PartialEq, prost::Message)]
struct Greeting {
    #[prost(string, tag = "1")]
    text: String,
}

/// The one method of the service.
struct Greet;

impl UnaryService<Greeting> for Greet {
    type Response = Greeting;
    type Future = Ready<Result<Response<Greeting>, Status>>;

    fn call(&mut self, request: Request<Greeting>) -> Self::Future {
        let caller = request.extensions().get::<Eid>();
        let text = format!("hello {}, or {caller:?}", request.get_ref().text);
        ready(Ok(Response::new(Greeting { text })))
    }
}

/// A substream as a connection: tonic wants to be told what is known about the caller.
struct Connection(Stream);

impl Connected for Connection {
    type ConnectInfo = Eid;

    fn connect_info(&self) -> Eid {
        self.0.peer_eid()
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, data)
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}

/// Serves the substreams of one session as connections.
async fn serve(listener: sss::Server) -> Result<(), Failure> {
    let (session, _eid) = listener.accept().await?;
    let connections = stream::unfold(session, |session| async {
        let stream = session.accept_substream().await.ok()??;
        Some((Ok::<_, io::Error>(Connection(stream)), session))
    });
    let service = service_fn(|request: HttpRequest<Body>| async {
        let response = Server::new(ProstCodec::default()).unary(Greet, request).await;
        Ok::<HttpResponse<Body>, Infallible>(response)
    });
    let transport = Transport::builder().serve_with_incoming(service, Box::pin(connections));
    Ok(transport.await?)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let alice = Host::builder().bind("127.0.0.1:0").build().await?;
    tokio::spawn(serve(alice.listen("greeter", "grpc")?));

    let bob = Host::builder().bind("127.0.0.1:0").build().await?;
    let session = bob
        .connect(alice.eid(), "greeter", "grpc")
        .hint(alice.local_addr())
        .await?;
    // A connector is a tower service: here it opens a substream, whatever the URI says.
    let connector = service_fn(move |_: Uri| ready(session.open_substream().map(TokioIo::new)));
    let channel = Endpoint::from_static("http://sss")
        .connect_with_connector(connector)
        .await?;
    let mut client = Client::new(channel);
    client.ready().await?;
    let request = Request::new(Greeting { text: "Bob".into() });
    let (path, codec) = (
        "/greeter.Greeter/Greet".parse()?,
        ProstCodec::<Greeting, Greeting>::default(),
    );
    let response = client.unary(request, path, codec).await?;
    assert_eq!(response.get_ref().text, format!("hello Bob, or {:?}", Some(bob.eid())));

    bob.close().await?;
    alice.close().await?;
    println!("ok");
    Ok(())
}
