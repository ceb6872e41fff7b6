//! The types that `tonic` and `prost` generate from the files under `proto/`.
//!
//! No logic lives here, and no other crate of the workspace is used: this is the root of the arrows.

/// The public API, `callboard.v1`.
#[expect(clippy::allow_attributes, clippy::large_enum_variant, reason = "generated")]
pub mod v1 {
    tonic::include_proto!("callboard.v1");
}

/// Actor to actor.
pub mod mesh {
    /// `callboard.mesh.v1`.
    #[expect(clippy::allow_attributes, reason = "generated")]
    pub mod v1 {
        tonic::include_proto!("callboard.mesh.v1");
    }
}

/// The encoded descriptors of both packages, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
