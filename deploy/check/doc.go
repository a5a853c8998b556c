// Package check has tests of what is in deploy: that manifests are what Kubernetes, KEDA and Compose read, that units are
// what systemd runs, and that every command line, port and setting in them is one that the program has. It is a module of
// its own: nobody who uses Tallyman needs the types of Kubernetes.
package check
