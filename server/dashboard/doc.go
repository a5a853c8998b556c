// Package dashboard serves the pages by which people follow and steer jobs: a frame of HTML, and the scripts and styles that
// fill it from the API by HTTP. All of it is in the binary, nothing of it is generated, and no page holds data of its own, so
// that who may see what is decided by the API alone.
package dashboard
