//! The fuzz targets of the S3 front; see [`crate::fuzzing`].

mod chunked;
mod policy;
mod sigv4;
mod xml;

pub use self::{
    chunked::chunked,
    policy::aws_policy,
    sigv4::{sigv4_header, sigv4_query},
    xml::xml,
};
