//! The tonic peer: MyService of the sample users, as a tonic program with
//! nothing but its defaults has it.
//!
//!     roster-bench-tonic 127.0.0.1:50051 examples/users.csv

use std::collections::HashMap;
use std::error::Error;
use std::fs;
use std::net::SocketAddr;

use tonic::transport::Server;
use tonic::{Request, Response, Status};

mod api {
    include!(concat!(env!("OUT_DIR"), "/_.rs"));
}

struct Directory {
    users: HashMap<i32, api::User>,
}

#[tonic::async_trait]
impl api::my_service_server::MyService for Directory {
    async fn health(&self, _: Request<()>) -> Result<Response<()>, Status> {
        Ok(Response::new(()))
    }

    async fn user(
        &self,
        request: Request<api::UserReq>,
    ) -> Result<Response<api::UserReply>, Status> {
        let ids = request.into_inner().user_i_ds;
        Ok(Response::new(api::UserReply {
            message: "success".into(),
            data: ids.iter().filter_map(|id| self.users.get(id).cloned()).collect(),
        }))
    }
}

/// The sample file quotes nothing, so a line is its four fields.
fn load(path: &str) -> Result<HashMap<i32, api::User>, Box<dyn Error>> {
    let mut users = HashMap::new();
    for line in fs::read_to_string(path)?.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let [id, name, age, email] = fields[..] else {
            return Err(format!("{path}: {line:?} is not id,name,age,email").into());
        };
        let user = api::User { name: name.into(), age: age.parse()?, email: email.into() };
        users.insert(id.parse()?, user);
    }
    Ok(users)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, address, users] = &arguments[..] else {
        return Err("usage: roster-bench-tonic HOST:PORT USERS.csv".into());
    };
    let address: SocketAddr = address.parse()?;
    let service = api::my_service_server::MyServiceServer::new(Directory { users: load(users)? });
    Server::builder().add_service(service).serve(address).await?;
    Ok(())
}
