// Package e2e tests the program as its users run it: the real binary, built once per test process, real databases, real
// signals. Nothing of the program is linked in but its client library, and its stores are looked at by SQL.
//
// The processes of a test write into folders of the test and end with it, whatever it does. Their output is printed
// when the test fails; a data race, which they report when the tests themselves are built with the race detector, and a
// panic fail the test in any case.
package e2e
