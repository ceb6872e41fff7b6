//! What holds of membership whatever happens.

mod members;
