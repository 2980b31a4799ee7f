// Package guestnet lets a Linux guest keep its addresses on adapters that are new to it.
//
// On another hypervisor a card has its old MAC address and another name: what was
// ens192 is enp1s0. Whatever set up ens192, with its addresses, routes, bonds and
// firewall zones, finds no such card. So [Plan] looks which of the guest's settings are
// for which card, by the addresses that VMware Tools reported for its MAC address, and
// gives the card its old name by that MAC address: a .link file of systemd, or a rule of
// udev where systemd is older than 243. The settings stay as they are. They are read in
// the languages of netplan, systemd-networkd, NetworkManager, ifcfg files (RHEL, SUSE)
// and /etc/network/interfaces.
//
// Where the guest has no settings for addresses that Tools report as set by hand, or
// binds them to the old driver, they are written for the MAC address, in the language
// that the guest uses. What is not certain is refused: the error says why, and nothing
// is changed.
//
// [Apply] does it in the disks of a guest, with guestfish of libguestfs. Done
// again it comes to the same.
//
// Not promised: cards that the guest has not set up itself; addresses that a program of
// its own sets; more than one operating system on the disks.
package guestnet
