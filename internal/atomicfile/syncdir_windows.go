package atomicfile

import "os"

// syncDir only looks whether dir is there.
func syncDir(dir string) error {
	_, err := os.Stat(dir)
	return err
}
