package checksum

import "hash/crc32"

// polynomial is a CRC's generator in reflected form: bit width-1 is x^0.
type polynomial struct {
	bits  uint64
	width uint
}

// crc64NVMEPoly is CRC-64/NVME's, reflected.
const crc64NVMEPoly = 0x9a6c9329ac4bc9b5

func (a Algorithm) polynomial() (polynomial, bool) {
	switch a {
	case CRC32:
		return polynomial{crc32.IEEE, 32}, true
	case CRC32C:
		return polynomial{crc32.Castagnoli, 32}, true
	case CRC64NVME:
		return polynomial{crc64NVMEPoly, 64}, true
	}
	return polynomial{}, false
}

// combine returns the CRC of A followed by B from both CRCs and B's length: with
// the register preset and inverted as all three CRCs have it,
// crc(AB) = crc(A)·x^(8·len(B)) + crc(B) modulo the generator.
func (p polynomial) combine(a, b uint64, lenB int64) uint64 {
	// x^(8n) by repeated squaring, starting from x^8.
	square := uint64(1) << (p.width - 9)
	power := uint64(1) << (p.width - 1) // x^0
	for n := uint64(lenB); n > 0; n >>= 1 {
		if n&1 != 0 {
			power = p.mul(power, square)
		}
		square = p.mul(square, square)
	}
	return p.mul(a, power) ^ b
}

// mul multiplies modulo the generator.
func (p polynomial) mul(a, b uint64) uint64 {
	var r uint64
	for bit := uint64(1) << (p.width - 1); bit != 0; bit >>= 1 {
		if a&bit != 0 {
			r ^= b
		}
		if b&1 != 0 {
			b = b>>1 ^ p.bits
		} else {
			b >>= 1
		}
	}
	return r
}
