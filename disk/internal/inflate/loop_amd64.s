//go:build !purego

#include "go_asm.h"
#include "textflag.h"

// By how many bytes a match is back, from 0 to 7: the factor that repeats them
// in a word, and how many bytes whole repetitions are.
DATA repeats<>+0(SB)/8, $0x0000000000000000
DATA repeats<>+8(SB)/8, $0x0101010101010101
DATA repeats<>+16(SB)/8, $0x0001000100010001
DATA repeats<>+24(SB)/8, $0x0001000001000001
DATA repeats<>+32(SB)/8, $0x0000000100000001
DATA repeats<>+40(SB)/8, $0x0000010000000001
DATA repeats<>+48(SB)/8, $0x0001000000000001
DATA repeats<>+56(SB)/8, $0x0100000000000001
GLOBL repeats<>(SB), RODATA|NOPTR, $64

DATA strides<>+0(SB)/8, $0
DATA strides<>+8(SB)/8, $8
DATA strides<>+16(SB)/8, $8
DATA strides<>+24(SB)/8, $6
DATA strides<>+32(SB)/8, $8
DATA strides<>+40(SB)/8, $5
DATA strides<>+48(SB)/8, $6
DATA strides<>+56(SB)/8, $7
GLOBL strides<>(SB), RODATA|NOPTR, $64

// Registers:
//
//	SI  next byte of input           R10 no round begins after it
//	DI  next byte of output          R11 no round begins after it
//	BX  the next bits                R12 first byte of output
//	CX  how many of them count; only its six lowest bits are of interest
//	R8  literals and lengths         R9  distances
//	AX  an entry of a table          DX  scratch
//	R13 length, then end of a match  R15 distance, then begin of a match
//
// Shifts and BZHI look at the lowest six and eight bits of a count only, which is
// why an entry can be one as it is. The sign of an entry is isLiteral.

// REFILL makes at least 56 bits available.
#define REFILL \
	MOVQ (SI), DX;    \
	SHLXQ CX, DX, DX; \
	ORQ DX, BX;       \
	MOVL CX, DX;      \
	NOTL DX;          \
	SHRL $3, DX;      \
	ANDL $7, DX;      \
	ADDQ DX, SI;      \
	ORL $56, CX

// LOOKUP fetches the entry of the next literals or length.
#define LOOKUP \
	MOVL BX, AX;                     \
	ANDL $((1<<const_litBits)-1), AX; \
	MOVL (R8)(AX*4), AX

// SECOND follows a link from a table whose index has root bits to the entry in
// its second one. mask keeps the index inside the table, whatever the link says.
#define SECOND(root, table, mask) \
	SHRQ $root, BX;    \
	SUBL $root, CX;    \
	MOVL AX, DX;       \
	SHRL $8, DX;       \
	ANDL $15, DX;      \
	BZHIQ DX, BX, DX;  \
	SHRL $16, AX;      \
	ADDL DX, AX;       \
	ANDL $mask, AX;    \
	MOVL (table)(AX*4), AX

// CONSUME drops the bits that an entry takes.
#define CONSUME \
	SHRXQ AX, BX, BX; \
	SUBL AX, CX

// LITERALS writes the one or two literals of an entry: always two bytes.
#define LITERALS \
	CONSUME;       \
	SHRL $8, AX;   \
	MOVW AX, (DI); \
	SHRL $16, AX;  \
	ANDL $1, AX;   \
	LEAQ 1(DI)(AX*1), DI

// VALUE turns an entry into its length or distance, in dst.
#define VALUE(dst) \
	BZHIQ AX, BX, dst;  \
	MOVL AX, DX;        \
	SHRL $8, DX;        \
	SHRXQ DX, dst, dst; \
	CONSUME;            \
	SHRL $16, AX;       \
	ADDQ AX, dst

// func loopBMI2(l *loop) int
TEXT ·loopBMI2(SB), NOSPLIT, $0-16
	MOVQ l+0(FP), AX
	MOVQ loop_src(AX), SI
	MOVQ loop_lastIn(AX), R10
	ADDQ SI, R10
	ADDQ loop_pos(AX), SI
	MOVQ loop_dst(AX), R12
	MOVQ loop_lastOut(AX), R11
	ADDQ R12, R11
	MOVQ loop_out(AX), DI
	ADDQ R12, DI
	MOVQ loop_buf(AX), BX
	MOVQ loop_n(AX), CX
	MOVQ loop_lit(AX), R8
	MOVQ loop_dist(AX), R9

next:
	CMPQ SI, R10
	JHI little
	CMPQ DI, R11
	JHI little
	REFILL
	LOOKUP

loaded: // at least 56 bits, and AX is their entry
	TESTL AX, AX
	JGE other
	LITERALS
	LOOKUP
	TESTL AX, AX
	JGE other
	LITERALS
	LOOKUP
	TESTL AX, AX
	JGE other
	LITERALS
	JMP next

other:
	TESTL $const_isSpecial, AX
	JNZ special

length:
	VALUE(R13)

	MOVL CX, DX
	ANDL $63, DX
	CMPL DX, $(const_maxCode+13) // a distance takes no more
	JHS distance
	REFILL

distance:
	MOVL BX, AX
	ANDL $((1<<const_distBits)-1), AX
	MOVL (R9)(AX*4), AX
	TESTL $const_isSpecial, AX
	JNZ far

match:
	VALUE(R15)
	MOVQ DI, AX
	SUBQ R12, AX
	CMPQ R15, AX
	JHI data
	ADDQ DI, R13
	CMPQ R15, $16
	JLO near
	NEGQ R15
	ADDQ DI, R15
	REFILL       // for the next round, on its way while this one copies
	LOOKUP
	MOVOU (R15), X0
	MOVOU X0, (DI)
	ADDQ $16, DI
	CMPQ DI, R13
	JHS copied

copy:
	ADDQ $16, R15
	MOVOU (R15), X0
	MOVOU X0, (DI)
	MOVOU 16(R15), X0
	MOVOU X0, 16(DI)
	ADDQ $16, R15
	ADDQ $32, DI
	CMPQ DI, R13
	JLO copy

copied:
	MOVQ R13, DI
	CMPQ SI, R10
	JHI little
	CMPQ DI, R11
	JHI little
	JMP loaded

near: // overlaps within what one move takes
	MOVQ DI, AX
	SUBQ R15, AX
	CMPQ R15, $8
	JLO pattern

copy8:
	MOVQ (AX), DX
	MOVQ DX, (DI)
	ADDQ $8, AX
	ADDQ $8, DI
	CMPQ DI, R13
	JLO copy8
	MOVQ R13, DI
	JMP next

	// Fewer than 8 bytes back: they are repeated in a word, of which each
	// store counts for as many whole repetitions as fit.
pattern:
	MOVQ (AX), DX // what is behind the bytes does not matter
	MOVL R15, AX
	SHLL $3, AX
	BZHIQ AX, DX, DX
	LEAQ repeats<>(SB), AX
	IMULQ (AX)(R15*8), DX
	LEAQ strides<>(SB), AX
	MOVQ (AX)(R15*8), AX

repeat:
	MOVQ DX, (DI)
	ADDQ AX, DI
	CMPQ DI, R13
	JLO repeat
	MOVQ R13, DI
	JMP next

special:
	TESTL $const_isLink, AX
	JZ end
	SECOND(const_litBits, R8, (const_litSize-1))
	TESTL AX, AX
	JGE linked
	CONSUME
	SHRL $8, AX
	MOVB AX, (DI)
	INCQ DI
	JMP next

linked:
	TESTL $const_isSpecial, AX
	JZ length

end:
	TESTL $const_isEnd, AX
	JZ data
	CONSUME
	MOVQ $const_loopEnd, R13
	JMP done

far:
	TESTL $const_isLink, AX
	JZ data
	SECOND(const_distBits, R9, (const_distSize-1))
	TESTL $const_isSpecial, AX
	JZ match

data:
	MOVQ $const_loopBad, R13
	JMP done

little:
	MOVQ $const_loopLittle, R13

done:
	MOVQ l+0(FP), AX
	SUBQ loop_src(AX), SI
	MOVQ SI, loop_pos(AX)
	SUBQ R12, DI
	MOVQ DI, loop_out(AX)
	MOVQ BX, loop_buf(AX)
	ANDL $63, CX
	MOVQ CX, loop_n(AX)
	MOVQ R13, ret+8(FP)
	RET
