#!/bin/sh
# create-role.sh [-name NAME] [-user PRINCIPAL -on PATH ...] [snapshot] [power] [finish] [cdrom] [datastore] [nfc902]
#
# Makes the role of the user that hyper2kvm logs in with, with govc, or brings one of that
# name up to date. Without further words it allows what every export needs; each word adds
# what an option of an export needs:
#   snapshot   running VMs, from a temporary snapshot (-snapshot)
#   power      shutting guests down or powering VMs off first, and on again after a failure
#              (-shutdown, -power-off)
#   finish     marking VMs that are migrated (-finish); with -on / for making the attribute
#   cdrom      taking CD/DVD drives out and putting them back (-remove-cdrom)
#   datastore  reading disks from their datastores (-transport datastore or auto)
#   nfc902     reading disks over port 902 of the ESXi hosts (-transport nfc902 or auto)
# docs/vsphere-permissions.md says what each privilege is for.
#
# With -user and -on it gives the role to the user on these inventory paths and all below:
# the folders of the VMs and, with "datastore" or "cdrom", the datastores. Without -on it
# prints how.
#
# govc takes the vCenter and an administrator's credentials from GOVC_URL and the like.
#   create-role.sh -user 'VSPHERE.LOCAL\svc-export' -on /DC/vm/prod -on /DC/datastore/ds1 snapshot datastore
set -eu

name=hyper2kvm user='' paths='' privileges='VApp.Export'
usage() { sed -n '2,/^set -eu/{/^set/d;s/^# \{0,1\}//p;}' "$0" >&2; exit 2; }

while [ $# -gt 0 ]; do
	case $1 in
	-name | -user | -on) [ $# -gt 1 ] || usage ;;
	esac
	case $1 in
	-name) name=$2; shift ;;
	-user) user=$2; shift ;;
	-on) paths="$paths$2
"; shift ;;
	snapshot)
		privileges="$privileges VirtualMachine.State.CreateSnapshot VirtualMachine.State.RemoveSnapshot" ;;
	power)
		privileges="$privileges VirtualMachine.Interact.PowerOff VirtualMachine.Interact.PowerOn" ;;
	finish)
		privileges="$privileges Global.ManageCustomFields Global.SetCustomField VirtualMachine.Config.Rename"
		privileges="$privileges VirtualMachine.Config.EditDevice VirtualMachine.Interact.DeviceConnection" ;;
	cdrom)
		privileges="$privileges VirtualMachine.Config.AddRemoveDevice VirtualMachine.Config.EditDevice"
		privileges="$privileges VirtualMachine.Interact.SetCDMedia VirtualMachine.Interact.DeviceConnection Datastore.Browse" ;;
	datastore)
		privileges="$privileges Datastore.Browse Datastore.FileManagement VirtualMachine.Provisioning.DiskRandomRead" ;;
	nfc902)
		privileges="$privileges VirtualMachine.Provisioning.GetVmFiles VirtualMachine.Provisioning.DiskRandomRead" ;;
	*) usage ;;
	esac
	shift
done
if [ -n "$paths" ] && [ -z "$user" ]; then
	echo "$0: -on needs -user: who gets the role?" >&2
	exit 2
fi
command -v govc >/dev/null || { echo "$0: govc is missing: https://github.com/vmware/govmomi/releases" >&2; exit 1; }

# Twice the same privilege is one.
privileges=$(echo "$privileges" | tr ' ' '\n' | sort -u | tr '\n' ' ')
if govc role.ls "$name" >/dev/null 2>&1; then
	# shellcheck disable=SC2086 # a list of names
	govc role.update "$name" $privileges
	echo "role $name updated: $privileges"
else
	# shellcheck disable=SC2086
	govc role.create "$name" $privileges
	echo "role $name made: $privileges"
fi

if [ -z "$paths" ]; then
	echo "give it to the user on the folders of the VMs and on their datastores:"
	echo "  govc permissions.set -principal '${user:-DOMAIN\\user}' -role $name -propagate=true /DC/vm/FOLDER"
	exit
fi
printf %s "$paths" | while IFS= read -r path; do
	govc permissions.set -principal "$user" -role "$name" -propagate=true "$path"
	echo "$user has the role $name on $path"
done
