// Package landing brings finished images, and the domain that describes them, to a
// libvirt of the same machine.
//
// [Problems] says what is in the way, before there is anything to land. [Land] then
// goes through these steps, each written down before it is done:
//
//  1. the images become volumes of a storage pool: copied, with holes as holes, or
//     taken as they are where the export went into the pool's own directory. Without
//     a pool the images stay where they are;
//  2. the domain is defined, with the paths of its volumes;
//  3. it is started, and watched until the guest answers.
//
// [Undo] takes back what a landing that failed, or died with its process, has noted. It
// removes nothing that was there before, and never a guest that has been started:
// such a landing is done.
//
// It speaks libvirt's protocol over a socket of this machine. Other drivers than QEMU
// and the test driver, and libvirt of other machines, are refused by name.
package landing
