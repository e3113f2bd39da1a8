//! Nothing: the standard library that is built beside it is what is wanted.
