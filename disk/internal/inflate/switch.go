package inflate

// Switch is the environment variable that turns the assembly off, for a processor
// or an emulator that is suspected of running it wrongly. Its value is "portable":
// Go's compiler then makes every loop. Any other value does the same, except
// "auto", which like none uses what the processor has: who sets it distrusts the
// assembly.
const Switch = "HYPER2KVM_INFLATE"
