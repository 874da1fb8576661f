# Pid 1 of a container with `init: true`: passes signals on to its child, reaps orphans, ends as the child ends.
# All signals are blocked before it is executed; argv[1] is the child's pid. `initproc` holds the assembled bytes.
        .intel_syntax noprefix
        mov rsi, [rsp + 16]             # argv[1], a decimal number
        xor ebx, ebx
digit:  movzx eax, byte ptr [rsi]
        test al, al
        je next
        imul ebx, ebx, 10
        lea ebx, [rbx + rax - 48]
        inc rsi
        jmp digit

next:   mov eax, 128                    # rt_sigtimedwait(mask, NULL, NULL, 8)
        lea rdi, [rip + mask]
        xor esi, esi
        xor edx, edx
        mov r10d, 8
        syscall
        cmp eax, 17                     # SIGCHLD
        je reap
        test eax, eax
        js next
        mov esi, eax                    # kill(child, signal)
        mov edi, ebx
        mov eax, 62
        syscall
        jmp next

reap:   mov eax, 61                     # wait4(-1, &status, WNOHANG, NULL)
        or edi, -1
        lea rsi, [rsp - 16]
        mov edx, 1
        xor r10d, r10d
        syscall
        test eax, eax
        jle next
        cmp eax, ebx
        jne reap
        mov edi, [rsp - 16]
        mov eax, edi
        and eax, 127
        jne killed
        shr edi, 8
        and edi, 255
        jmp end
killed: lea edi, [rax + 128]
end:    mov eax, 60                     # exit(code)
        syscall

mask:   .quad 0xfffffffe3fcbfa07         # all but KILL, STOP, TTIN, TTOU and those that tell of a fault of our own
