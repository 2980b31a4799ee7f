//go:build !purego

#include "textflag.h"

// How often each byte of 32 counts in the sum of sums.
DATA weights<>+0(SB)/8, $0x191a1b1c1d1e1f20
DATA weights<>+8(SB)/8, $0x1112131415161718
DATA weights<>+16(SB)/8, $0x090a0b0c0d0e0f10
DATA weights<>+24(SB)/8, $0x0102030405060708
GLOBL weights<>(SB), RODATA|NOPTR, $32

DATA ones<>+0(SB)/8, $0x0001000100010001
DATA ones<>+8(SB)/8, $0x0001000100010001
DATA ones<>+16(SB)/8, $0x0001000100010001
DATA ones<>+24(SB)/8, $0x0001000100010001
GLOBL ones<>(SB), RODATA|NOPTR, $32

// func adlerSums(p *byte, n int) (sum, weighted uint32)
TEXT ·adlerSums(SB), NOSPLIT, $0-24
	MOVQ p+0(FP), SI
	MOVQ n+8(FP), CX
	VPXOR Y0, Y0, Y0 // sum of the bytes so far
	VPXOR Y1, Y1, Y1 // sum of Y0 before each 32 bytes: how often later bytes count them
	VPXOR Y2, Y2, Y2 // sum of the bytes by weight
	VPXOR Y5, Y5, Y5
	VMOVDQU weights<>(SB), Y3
	VMOVDQU ones<>(SB), Y4

loop:
	VMOVDQU (SI), Y6
	VPADDD Y0, Y1, Y1
	VPSADBW Y5, Y6, Y7
	VPADDD Y7, Y0, Y0
	VPMADDUBSW Y3, Y6, Y8
	VPMADDWD Y4, Y8, Y8
	VPADDD Y8, Y2, Y2
	ADDQ $32, SI
	SUBQ $32, CX
	JNZ loop

	VPSLLD $5, Y1, Y1
	VPADDD Y1, Y2, Y2

	VEXTRACTI128 $1, Y0, X1
	VPADDD X1, X0, X0
	VPSHUFD $0x4e, X0, X1
	VPADDD X1, X0, X0
	VMOVD X0, AX
	MOVL AX, sum+16(FP) // its odd lanes are zero

	VEXTRACTI128 $1, Y2, X1
	VPADDD X1, X2, X2
	VPSHUFD $0x4e, X2, X1
	VPADDD X1, X2, X2
	VPSHUFD $0xb1, X2, X1
	VPADDD X1, X2, X2
	VMOVD X2, AX
	MOVL AX, weighted+20(FP)
	VZEROUPPER
	RET
