//! Who runs here: runtimes to `ContainerEvent`s.
