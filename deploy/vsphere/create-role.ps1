<#
.SYNOPSIS
Makes the role of the user that hyper2kvm logs in with, or brings one of that name up to date.

.DESCRIPTION
Without switches the role allows what every export needs; each switch adds what an option of an
export needs. docs/vsphere-permissions.md says what each privilege is for. Connect-VIServer as an
administrator first.

.EXAMPLE
./create-role.ps1 -User 'VSPHERE.LOCAL\svc-export' -On (Get-Folder prod), (Get-Datastore ds1) -Snapshot -Datastore
#>
param(
    [string]$Name = 'hyper2kvm',
    # Who gets the role, on which folders of VMs and datastores, and all below them.
    [string]$User,
    [object[]]$On = @(),
    # Running VMs, from a temporary snapshot.
    [switch]$Snapshot,
    # Shutting guests down or powering VMs off first, and on again after a failure.
    [switch]$Power,
    # Marking VMs that are migrated.
    [switch]$Finish,
    # Taking CD/DVD drives out and putting them back.
    [switch]$Cdrom,
    # Reading disks from their datastores.
    [switch]$Datastore,
    # Reading disks over port 902 of the ESXi hosts.
    [switch]$Nfc902
)
$ErrorActionPreference = 'Stop'
if ($On.Count -gt 0 -and -not $User) { throw '-On needs -User: who gets the role?' }

$ids = @('VApp.Export')
if ($Snapshot) {
    $ids += 'VirtualMachine.State.CreateSnapshot', 'VirtualMachine.State.RemoveSnapshot'
}
if ($Power) {
    $ids += 'VirtualMachine.Interact.PowerOff', 'VirtualMachine.Interact.PowerOn'
}
if ($Finish) {
    $ids += 'Global.ManageCustomFields', 'Global.SetCustomField', 'VirtualMachine.Config.Rename',
        'VirtualMachine.Config.EditDevice', 'VirtualMachine.Interact.DeviceConnection'
}
if ($Cdrom) {
    $ids += 'VirtualMachine.Config.AddRemoveDevice', 'VirtualMachine.Config.EditDevice',
        'VirtualMachine.Interact.SetCDMedia', 'VirtualMachine.Interact.DeviceConnection', 'Datastore.Browse'
}
if ($Datastore) {
    $ids += 'Datastore.Browse', 'Datastore.FileManagement', 'VirtualMachine.Provisioning.DiskRandomRead'
}
if ($Nfc902) {
    $ids += 'VirtualMachine.Provisioning.GetVmFiles', 'VirtualMachine.Provisioning.DiskRandomRead'
}
$privileges = Get-VIPrivilege -Id ($ids | Sort-Object -Unique)

$role = Get-VIRole -Name $Name -ErrorAction SilentlyContinue
if ($role) {
    $extra = Get-VIPrivilege -Role $role | Where-Object { $_.Id -notin $ids -and $_.Id -notlike 'System.*' }
    $role = Set-VIRole -Role $role -AddPrivilege $privileges
    if ($extra) { $role = Set-VIRole -Role $role -RemovePrivilege $extra }
} else {
    $role = New-VIRole -Name $Name -Privilege $privileges
}
foreach ($entity in $On) {
    New-VIPermission -Entity $entity -Principal $User -Role $role -Propagate:$true | Out-Null
}
$role
